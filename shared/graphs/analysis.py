"""What an exported graph depends on: the facts that a tiling contract may promise."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper

from shared.graphs.errors import Unproven
from shared.graphs.folding import fold, read_constant
from shared.graphs.inlining import write_functions_out
from shared.graphs.memory import find_bytes_per_pixel
from shared.graphs.operators import NORMALISING, follow
from shared.graphs.sight import LARGEST, Sight
from shared.graphs.values import Opaque, Picture, Step, Value

_OLDEST = 13  # before this operator set, Softmax and Squeeze meant something else
_DOMAINS = ("", "ai.onnx")
# Whatever a rule takes for granted of attributes and arguments that no engine would accept either.
_NONSENSE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class GraphFacts:
    """What holds for a graph from a tile (N, H, W, channels) to the answer of its core (N, planes, H − 2 halo, …).

    The answer's pixel (i, j) stands for the tile's pixel (i + halo, j + halo).
    """

    grid: int  # px: a tile that lies n · grid px further gets the same answers, moved; sides are multiples, too
    halo: int  # px on each side that the answer is smaller than the tile
    reach: int | None  # px next to a tile's border, on the grid, that know of the cut; None: all may, something spreads
    spreading: tuple[str, ...]  # operators whose answer anywhere depends on the tile as a whole
    normalisations: tuple[str, ...]  # operators that normalise while serving; a folded BatchNorm is none
    bytes_per_pixel: int  # of activations at the peak, in 4-byte floats, per pixel of a large tile


def analyse(graph: bytes) -> GraphFacts:
    """Follow a tile through the graph of an ONNX file, operator by operator.

    Raises:
        Unproven: the graph holds something that the analysis cannot follow; the text names it.
    """
    model = _read(graph)
    nodes = _needed(model.graph)
    answer, spreading = _follow_all(model, nodes)
    operators = {node.op_type for node in nodes}
    rows, columns = answer.sights
    halo = _halo(answer)
    grid = math.lcm(rows.period, columns.period)
    if grid > LARGEST:
        raise Unproven(f"a grid of {grid} px, where {LARGEST} px is the largest that is followed")
    reach = max(sight.reach(origin=halo, grid=grid) for sight in (rows, columns))
    return GraphFacts(
        grid=grid,
        halo=halo,
        reach=None if spreading else reach,
        spreading=spreading,
        normalisations=tuple(sorted(operators & NORMALISING)),
        bytes_per_pixel=find_bytes_per_pixel(model, nodes, tile=_tile(model.graph).name),
    )


def _read(graph: bytes) -> onnx.ModelProto:
    """The model with its functions written out."""
    try:
        model = onnx.load_from_string(graph)
    except DecodeError as error:
        raise Unproven("no ONNX graph, but bytes that cannot be read as one") from error
    if any(imported.domain in _DOMAINS and imported.version < _OLDEST for imported in model.opset_import):
        raise Unproven(f"an operator set older than {_OLDEST}")
    if len(model.graph.output) != 1 or len(_tile(model.graph).type.tensor_type.shape.dim) != 4:
        raise Unproven("a graph that does not have one input (N, H, W, channels) and one output")
    return write_functions_out(model) if model.functions else model


def _tile(graph: onnx.GraphProto) -> onnx.ValueInfoProto:
    """The one input that is no weights."""
    weights = {tensor.name for tensor in graph.initializer}
    tiles: list[onnx.ValueInfoProto] = [given for given in graph.input if given.name not in weights]
    if len(tiles) != 1:
        raise Unproven("a graph that does not have one input and one output")
    return tiles[0]


def _needed(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that the answer depends on, in their order."""
    wanted = {graph.output[0].name}
    needed = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input) - {""}
            needed.append(node)
    return needed[::-1]


def _follow_all(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> tuple[Picture, tuple[str, ...]]:
    """What the answer sees, and the operators that spread."""
    tile = _tile(model.graph)
    values: dict[str, Value] = {tensor.name: read_constant(tensor) for tensor in model.graph.initializer}
    batch = None if tile.type.tensor_type.shape.dim[0].dim_value == 1 else 0
    values[tile.name] = Picture(rank=4, axes=(1, 2), sights=(Sight.of_image(), Sight.of_image()), batch=batch)
    spreading: set[str] = set()
    for node in nodes:
        try:
            made, spreads = _follow(node, values, everything_spreads=bool(spreading))
        except Unproven as error:
            raise Unproven(f"{node.op_type} ({node.name}): {error}") from error
        values.update(made)
        if spreads:
            spreading.add(node.op_type)
    answer = values.get(model.graph.output[0].name)
    if not isinstance(answer, Picture):
        raise Unproven("an answer in which rows and columns of the tile cannot be told")
    return answer, tuple(sorted(spreading))


def _follow(
    node: onnx.NodeProto, values: Mapping[str, Value], *, everything_spreads: bool
) -> tuple[dict[str, Value], bool]:
    """What the node makes, by name, and whether it spreads."""
    if node.domain not in _DOMAINS:
        raise Unproven(f"an operator of {node.domain}, that the analysis does not know")
    missing = [name for name in node.input if name and name not in values]
    if missing:
        raise Unproven(f"{missing[0]}, which no node before it makes")
    inputs = [values.get(name) for name in node.input]
    constants = [value for value in inputs if value is None or isinstance(value, np.ndarray)]
    try:
        if len(constants) == len(inputs):
            return dict(zip(node.output, fold(node, constants), strict=False)), False
        step = Step(node.op_type, _attributes(node), inputs, everything_spreads=everything_spreads)
        value = follow(step)
    except _NONSENSE as error:
        raise Unproven(f"attributes or arguments that make no sense: {error}") from error
    return _name(node, value), step.spreads


def _name(node: onnx.NodeProto, value: Value) -> dict[str, Value]:
    """The outputs. Besides the first, only the parts of a Split are pictures: others are indices, masks, statistics."""
    first, *others = node.output
    made = {first: value, **dict.fromkeys(others, value if node.op_type == "Split" else Opaque())}
    made.pop("", None)  # one that is left out
    return made


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _halo(answer: Picture) -> int:
    """Px that the answer is smaller than the tile on each side."""
    lost = {sight.lost for sight in answer.sights}
    if answer.axes != (2, 3) or answer.batch not in (0, None) or {sight.step for sight in answer.sights} != {1}:
        raise Unproven("an answer that is not (N, planes, rows, columns), a pixel for a pixel")
    if len(lost) > 1 or min(lost) < 0 or min(lost) % 2:
        raise Unproven(f"an answer that is {sorted(lost)} px smaller than the tile, not the same on all four sides")
    return lost.pop() // 2
