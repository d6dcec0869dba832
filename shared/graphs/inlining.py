"""Functions of a model, written out as the nodes that they stand for."""

from collections.abc import Iterator, Sequence

import onnx
from onnx import inliner

from shared.graphs.errors import Unproven

_DEEPEST = 32  # functions that call functions
_MOST_NODES = 200_000  # written out; a network of a thousand layers has ten thousand

Name = tuple[str, str]  # domain and operator


def write_functions_out(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model without functions.

    Raises:
        Unproven: it would be endless, or too large: a few functions that call each other twice double at each step.
    """
    calls = {(function.domain, function.name): _calls(function.node) for function in model.functions}
    sizes = dict.fromkeys(calls, 1)
    for _ in range(_DEEPEST):
        grown = {name: _count(called, sizes) for name, called in calls.items()}
        if grown == sizes:
            break
        sizes = grown
    else:
        raise Unproven(f"functions that call each other more than {_DEEPEST} deep")
    if _count(_calls(model.graph.node), sizes) > _MOST_NODES:
        raise Unproven(f"functions that stand for more than {_MOST_NODES} nodes")
    try:
        return inliner.inline_local_functions(model)
    except (RuntimeError, TypeError, ValueError) as error:
        raise Unproven(f"functions that cannot be written out: {error}") from error


def _count(called: Sequence[Name], sizes: dict[Name, int]) -> int:
    """Nodes that these calls stand for; beyond the bound it does not matter by how much."""
    return min(sum(sizes.get(name, 1) for name in called), _MOST_NODES + 1)


def _calls(nodes: Sequence[onnx.NodeProto]) -> list[Name]:
    return [(node.domain, node.op_type) for node in _all_nodes(nodes)]


def _all_nodes(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """With those of the graphs inside of nodes."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _all_nodes(graph.node)
