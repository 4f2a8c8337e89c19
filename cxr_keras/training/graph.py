"""A network's graph, as Keras keeps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras


def nodes_of(model: keras.Model) -> list[Any]:
    """The nodes of this graph alone; a layer may lie in others, too."""
    return [node for level in model._nodes_by_depth.values() for node in level]


def last_before(model: keras.Model, fixed: Callable[[Any], bool]) -> keras.KerasTensor | None:
    """The last tensor that everything after it depends on alone, all up to it being `fixed`."""
    nodes: dict[str, list[Any]] = {operation.name: [] for operation in model.operations}
    for node in nodes_of(model):
        nodes[node.operation.name].append(node)
    parents = {
        operation.name: {
            tensor._keras_history.operation.name
            for node in nodes[operation.name]
            for tensor in node.input_tensors
        }
        for operation in model.operations  # inputs come first
    }
    before: dict[str, set[str]] = {}
    passed: set[str] = set()
    for operation in model.operations:
        name = operation.name
        before[name] = parents[name].union(*(before[source] for source in parents[name]))
        once = len(nodes[name]) == 1 and len(nodes[name][0].output_tensors) == 1
        if once and fixed(operation) and before[name] <= passed:
            passed.add(name)
    for name in (name for name in reversed(parents) if name in passed):
        inside = before[name] | {name}
        outside = [other for other in parents if other not in inside]
        bypassed = any(s in inside and s != name for other in outside for s in parents[other])
        if outside and not bypassed:
            tensor: keras.KerasTensor = nodes[name][0].output_tensors[0]
            return tensor
    return None
