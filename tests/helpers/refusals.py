"""What a refused call says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cxr_keras.errors import CxrError


def refusal(function: Callable[..., object], *args: object, **options: object) -> str:
    """The sentence of the error that the call must end in."""
    with pytest.raises(CxrError) as caught:
        function(*args, **options)
    return str(caught.value)
