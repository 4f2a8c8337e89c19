"""What the tests of this folder share."""

import pytest

from cxr_keras.data.phantom import write_phantoms


@pytest.fixture(scope="module")
def few(tmp_path_factory, cache):
    """A dozen phantoms."""
    return write_phantoms(tmp_path_factory.mktemp("few") / "phantoms", count=12, seed=3)
