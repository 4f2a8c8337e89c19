"""Gradients averaged over the processes of a training, while the rest of them is still computed.

Parameters are put into buckets from the last to the first, the order in which their gradients are
done. A bucket whose gradients are all there is summed over the processes at once, in the
background, as torch's DistributedDataParallel does (Li et al., "PyTorch Distributed: Experiences on
Accelerating Data Parallel Training", VLDB 2020, https://arxiv.org/abs/2006.15704). That class
itself wants to be called in the network's place, which Keras's `fit` does not do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from cxr_keras.training.processes import Team

BUCKET_BYTES = 25 * 2**20


@contextmanager
def averaged_gradients(
    optimizer: keras.optimizers.Optimizer, variables: Sequence[Any], team: Team
) -> Iterator[None]:
    """Within the body, `optimizer` applies gradients that are averaged over `team`.

    Args:
        optimizer: is handed the gradients of all `variables`, in their order.
        variables: Keras's, on torch.
        team: the processes; each must take the same number of steps.
    """
    if team.size == 1:
        yield
        return
    average = _Average([variable.value for variable in variables], team.size)
    apply = optimizer.apply

    def apply_averaged(grads: Any, trainable_variables: Any = None) -> None:
        apply(average.finish(list(grads)), trainable_variables)

    optimizer.apply = apply_averaged
    try:
        yield
    finally:
        del optimizer.apply
        average.remove()


class _Average:
    """The buckets of a network's parameters, and what is under way."""

    def __init__(self, parameters: Sequence[Any], size: int):
        self._parameters, self._size = list(parameters), size
        self._buckets = _bucketed(self._parameters)
        self._bucket_of = {i: b for b, bucket in enumerate(self._buckets) for i in bucket}
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(self._hook(i))
            for i, parameter in enumerate(self._parameters)
        ]
        self._begin()

    def finish(self, grads: list[Any]) -> list[Any]:
        """The averages, in the order of the parameters; waits for those under way."""
        import torch

        for bucket in self._buckets[len(self._running) :]:  # whose hooks have not all run
            self._launch([grads[i] for i in bucket])
        averaged = list(grads)
        for bucket, (work, flat) in zip(self._buckets, self._running, strict=True):
            work.wait()
            flat /= self._size
            parts = torch.split(flat, [grads[i].numel() for i in bucket])
            for i, part in zip(bucket, parts, strict=True):
                averaged[i] = part.view_as(grads[i])
        self._begin()
        return averaged

    def remove(self) -> None:
        """Leave the parameters as they were."""
        for hook in self._hooks:
            hook.remove()

    def _begin(self) -> None:
        self._running: list[tuple[Any, Any]] = []
        self._missing = [len(bucket) for bucket in self._buckets]

    def _hook(self, i: int) -> Any:
        def ready(parameter: Any) -> None:
            self._missing[self._bucket_of[i]] -= 1
            # every process must sum the buckets in the same order
            while len(self._running) < len(self._buckets) and not self._missing[len(self._running)]:
                self._launch([self._parameters[j].grad for j in self._buckets[len(self._running)]])

        return ready

    def _launch(self, grads: list[Any]) -> None:
        import torch

        flat = torch.cat([gradient.reshape(-1) for gradient in grads])
        self._running.append((torch.distributed.all_reduce(flat, async_op=True), flat))


def _bucketed(parameters: Sequence[Any]) -> list[list[int]]:
    """Places of parameters of one type, from the last to the first, up to 25 MB together."""
    buckets: list[list[int]] = []
    room, kind = 0, None
    for i in reversed(range(len(parameters))):
        parameter = parameters[i]
        size = parameter.numel() * parameter.element_size()
        if not buckets or size > room or parameter.dtype != kind:
            buckets.append([])
            room, kind = BUCKET_BYTES, parameter.dtype
        buckets[-1].append(i)
        room -= size
    return buckets
