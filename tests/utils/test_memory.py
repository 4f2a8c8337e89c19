"""Memory that is kept, and memory that is not there."""

import importlib.util

import pytest
from helpers.places import ROOT

from cxr_keras.utils.memory import is_out_of_memory


def test_only_the_command_line_changes_the_allocator_of_the_process():
    users = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "cxr_keras").rglob("*.py")
        if "keep_freed_memory" in path.read_text(encoding="utf-8")
    }
    assert users == {"cxr_keras/utils/memory.py", "cxr_keras/cli/__init__.py"}


def test_torch_without_memory_is_told():
    import torch

    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    with pytest.raises(RuntimeError) as caught:
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert not is_out_of_memory(caught.value)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="no TensorFlow here")
def test_tensorflow_without_memory_is_told():
    import tensorflow as tf

    with pytest.raises(tf.errors.ResourceExhaustedError) as caught:
        tf.ones((1 << 22, 1 << 22))
    assert is_out_of_memory(caught.value)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="no JAX here")
def test_jax_without_memory_is_told():
    import jax

    with pytest.raises(Exception, match="RESOURCE_EXHAUSTED") as caught:
        jax.numpy.ones((1 << 22, 1 << 22)).block_until_ready()
    assert is_out_of_memory(caught.value)


def test_other_errors_are_not_about_memory():
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(ValueError("out of memory lane"))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
