"""How fast is each engine, in each precision, for tiles of each size? Nothing of the platform around it.

    python -m benchmarks.engines [--widths 64 128 256 512 1024] [--cores 256 512 1024 2048] [--batches 1 4 8]

The graph is the one that the platform serves: bytes in, bytes of the core out. Batches are of tiles of the smallest
core, as bundles of small images are. Torch computes the same network, its BatchNorm folded, channels last. Where `nncf`
is installed, OpenVINO also runs the network quantised to int8, calibrated on crops of the picture.

Of each, the best of some rounds, wall-clock and CPU seconds; other work on the machine hardly changes the latter.
Progress goes to stderr. The last line of stdout is one JSON object.
"""

import argparse
import copy
import gc
import importlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmarks.images import load_source, take_picture
from benchmarks.machine import describe_machine
from benchmarks.networks import count_parameters, export_network, make_network
from services.trainer.networks import UNet
from services.trainer.serving.served_graph import ServedGraph
from shared.imaging.tiling import Pixels

Run = Callable[[Pixels], object]  # predicts tiles (N, H, W, C)
Start = Callable[[tuple[int, ...]], Run]  # compiles for tiles of one shape

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
CALIBRATION = 32  # tiles


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _parse(arguments)
    machine = describe_machine()
    torch.set_num_threads(_count_threads())
    name, source = load_source(options.data)
    _say(f"picture: {name}; exporting the network (about a minute) ...")
    network = make_network(options.widths, source)
    export = export_network(network)
    halo = export.contract.halo
    rows: list[dict[str, Any]] = []
    for engine, start in list_engines(network, export.files["model.onnx"], source, side=options.cores[0] + 2 * halo):
        if options.engines and engine not in options.engines:
            continue
        for core, batch in _list_shapes(options):
            tiles = cut_tiles(source, batch, core + 2 * halo)
            rows.append({"engine": engine, "core_px": core, "batch": batch, **measure(start, tiles, options.rounds)})
            _say(json.dumps(rows[-1]))
    report = {
        "rows": [describe(row, rows) for row in rows],
        "halo_px": halo,
        "parameters": count_parameters(network),
        "threads": _count_threads(),
        "versions": {one.__name__: one.__version__.split("-")[0] for one in (openvino, onnxruntime, torch)},
        "machine": machine,
    }
    print(json.dumps(report), flush=True)


def list_engines(network: UNet, graph: bytes, source: Pixels, *, side: int) -> Iterator[tuple[str, Start]]:
    """Each engine that is there, with its precision."""
    core = openvino.Core()
    model = core.read_model(graph)
    yield "openvino bf16", lambda shape: _start_openvino(core, model, "bf16", shape)
    yield "openvino f32", lambda shape: _start_openvino(core, model, "f32", shape)
    if importlib.util.find_spec("nncf") is not None:
        quantised = quantise(model, cut_tiles(source, CALIBRATION, side))
        yield "openvino int8", lambda shape: _start_openvino(core, quantised, "bf16", shape)  # what stays is bf16
    yield "onnxruntime f32", lambda _: _start_onnxruntime(graph)
    yield "torch bf16", lambda _: _start_torch(network)


def quantise(model: Any, tiles: Pixels) -> Any:
    """The OpenVINO model in int8, after training, as NNCF does it by default."""
    nncf: Any = importlib.import_module("nncf")  # not in every environment
    return nncf.quantize(model.clone(), nncf.Dataset([tile[None] for tile in tiles]), subset_size=len(tiles))


def cut_tiles(source: Pixels, number: int, side: int) -> Pixels:
    """Tiles (number, side, side, 3) of the source, each of another place."""
    return np.stack([take_picture(source, side, index) for index in range(number)])


def measure(start: Start, tiles: Pixels, rounds: int) -> dict[str, float]:
    """The best round, seconds for all the tiles, after one that does not count."""
    run = start(tiles.shape)
    run(tiles)
    walls, cpus = [], []
    for _ in range(rounds):
        begun, cpu_begun = time.perf_counter(), time.process_time()
        run(tiles)
        walls.append(time.perf_counter() - begun)
        cpus.append(time.process_time() - cpu_begun)
    del run
    gc.collect()  # the next shape may need the memory
    return {"seconds": round(min(walls), 4), "cpu_seconds": round(min(cpus), 4)}


def describe(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """With what a tile costs, and against OpenVINO's bf16 on the same tiles."""
    same = [one for one in rows if (one["core_px"], one["batch"]) == (row["core_px"], row["batch"])]
    reference = next((one for one in same if one["engine"] == "openvino bf16"), row)
    return {
        **row,
        "cpu_seconds_per_tile": round(row["cpu_seconds"] / row["batch"], 4),
        "core_mpx_per_cpu_second": round(row["batch"] * row["core_px"] ** 2 / row["cpu_seconds"] / 1e6, 3),
        "cpu_against_openvino_bf16": round(row["cpu_seconds"] / reference["cpu_seconds"], 2),
    }


def _start_openvino(core: Any, model: Any, precision: str, shape: tuple[int, ...]) -> Run:
    fixed = model.clone()
    fixed.reshape(shape)
    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": _count_threads(),
    }
    request = core.compile_model(fixed, "CPU", options).create_infer_request()
    return lambda tiles: request.infer({0: tiles}, share_inputs=True)


def _start_onnxruntime(graph: bytes) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _count_threads()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda tiles: session.run(None, {"IMAGE": tiles})


def _start_torch(network: UNet) -> Run:
    """As good as torch gets without compiling."""
    folded: Any = copy.deepcopy(network).eval()
    _fold(folded)
    served = ServedGraph(folded.to(memory_format=torch.channels_last))

    def run(tiles: Pixels) -> object:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            return served(torch.from_numpy(tiles))

    return run


def _fold(network: nn.Module) -> None:
    """Every BatchNorm into the convolution before it."""
    for block in network.modules():
        if not isinstance(block, nn.Sequential):
            continue
        for name, after in zip(list(block._modules), list(block._modules)[1:], strict=False):
            convolution, normalisation = block._modules[name], block._modules[after]
            if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
                block._modules[name] = fuse_conv_bn_eval(convolution, normalisation)
                block._modules[after] = nn.Identity()


def _list_shapes(options: argparse.Namespace) -> list[tuple[int, int]]:
    """Core and number of tiles."""
    return [*((options.cores[0], batch) for batch in options.batches), *((core, 1) for core in options.cores[1:])]


def _count_threads() -> int:
    return len(os.sched_getaffinity(0))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 512, 1024], help="of the UNet")
    parser.add_argument("--cores", type=int, nargs="+", default=[256, 512, 1024, 2048], help="sides of cores, px")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8], help="tiles of the first core at once")
    parser.add_argument("--engines", nargs="+", help="only these, such as 'openvino bf16'")
    parser.add_argument("--rounds", type=int, default=3, help="the best counts")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with real slides; without it, one is drawn")
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
