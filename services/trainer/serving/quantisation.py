"""An exported graph, computed in int8 where that pays."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from shared.imaging.tiling import Pixels

WEIGHTED = ("Conv", "ConvTranspose")


def quantise(graph: bytes, tiles: Iterator[Pixels]) -> bytes:
    """The same graph with int8 weights and uint8 activations in every convolution but the outer ones.

    Weights have a scale for each channel, activations one for the layer: the range that `tiles` show. The graph stays
    one of ordinary operators, QuantizeLinear and DequantizeLinear around floating-point convolutions; an engine that
    can computes what lies between them in int8 (Jacob et al. 2018, https://arxiv.org/abs/1712.05877).

    The first and the last convolutions stay as they are: they are cheap, and of `nuclei-starter` they cost 0.036 Dice.
    Only what convolutions read is quantised. Rounded at their ends, too, they would be cut off from the ReLU that
    engines compute with them, and int8 were no faster than bf16.

    Args:
        graph: ONNX, IMAGE uint8 (N, H, W, C) to PROBABILITY.
        tiles: (H, W, C) each, as they will be served; all of one size.
    """
    model = onnx.load_from_string(graph)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "model.onnx"
        quantize_static(
            model,
            written,
            _Reader(tiles),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(WEIGHTED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=find_outer(model.graph),
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"QuantizeBias": False, "OpTypesToExcludeOutputQuantization": list(WEIGHTED)},
        )
        return written.read_bytes()


def find_outer(graph: onnx.GraphProto) -> list[str]:
    """Names of the convolutions before which, or after which, there is no other. Several, where there are more heads.

    The nodes of an ONNX graph stand in an order in which each follows those that it reads from.
    """
    before, after = _reached(graph, forwards=True), _reached(graph, forwards=False)
    weighted = [node.name for node in graph.node if node.op_type in WEIGHTED]
    return [name for name in weighted if name not in before or name not in after]


def _reached(graph: onnx.GraphProto, *, forwards: bool) -> set[str]:
    """Names of the nodes that lie after a convolution; or before one, looking backwards."""
    values: set[str] = set()
    nodes: set[str] = set()
    for node in graph.node if forwards else reversed(graph.node):
        near, far = (node.input, node.output) if forwards else (node.output, node.input)
        lies_beyond = not values.isdisjoint(near)
        if lies_beyond:
            nodes.add(node.name)
        if lies_beyond or node.op_type in WEIGHTED:
            values.update(far)
    return nodes


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
    """Hands the tiles to the quantiser, one at a time."""

    def __init__(self, tiles: Iterator[Pixels]) -> None:
        self._tiles = tiles

    def get_next(self) -> dict[str, Pixels] | None:
        """The next tile (1, H, W, C) by the name of the input, None after the last."""
        tile = next(self._tiles, None)
        return None if tile is None else {"IMAGE": tile[None]}
