"""What a refused call says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cxr_keras.errors import DataError


def refusal(function: Callable[..., object], *args: object, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        function(*args, **options)
    return str(caught.value)
