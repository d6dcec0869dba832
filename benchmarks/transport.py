"""Does shared memory pay between a worker and a Triton on the same host?

    python -m benchmarks.transport [--side 2240] [--times 20] [--widths 8 16 32]

One tile after the other is written into its slot and asked for, through shared memory and over gRPC in turns: of a
model that computes nothing (it answers one channel of the tile), and of a small UNet. Nothing else is in flight, so
that the latency of a tile is all that is seen. The last line of stdout is one JSON object, milliseconds per tile.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from benchmarks.images import DRAWN_SIDE, take_picture
from benchmarks.machine import describe_machine
from benchmarks.networks import export_network, make_network
from deploy.local.stack import Stack
from services.worker.model_server import TritonServer
from shared.imaging.drawing import draw_nuclei
from shared.imaging.tiling import Pixels

WARM_UP = 3  # tiles, not counted
ROUNDS = 3
IDLE_MODEL = b"""
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(pb_utils.get_input_tensor_by_name(each, "IMAGE").as_numpy()) for each in requests]

    def answer(self, image):
        first = np.ascontiguousarray(image[:, HALO:-HALO, HALO:-HALO, 0])[:, None]
        return pb_utils.InferenceResponse([pb_utils.Tensor("PROBABILITY", first)])
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _parse(arguments)
    machine = describe_machine()
    picture = draw_nuclei(DRAWN_SIDE, DRAWN_SIDE, seed=0, stain="histology")[0]
    export = export_network(make_network(options.widths, picture))
    halo, tile = export.contract.halo, take_picture(picture, options.side, 0)[None]
    idle = {"config.json": export.files["config.json"], "model.py": IDLE_MODEL.replace(b"HALO", b"%d" % halo)}
    with (
        TemporaryDirectory(prefix="overtile-bench-") as folder,
        Stack(Path(folder), durable=False, servers=("triton",)) as stack,
    ):
        report = {
            name: compare(stack, name, files, tile, options.times)
            for name, files in (("idle", idle), ("unet", export.files))
        }
    facts = {"side_px": options.side, "halo_px": halo, "unet_widths": options.widths, "machine": machine}
    print(json.dumps({**report, **facts}), flush=True)


def compare(stack: Stack, name: str, files: Mapping[str, bytes], tile: Pixels, times: int) -> dict[str, Any]:
    """Both transports in turns; of each, the round with the lowest latency."""
    connect(stack, shared=False).load(name, files)
    best: dict[str, Any] = {}
    for _ in range(ROUNDS):
        for transport in ("shared_memory", "grpc"):
            measured = ask(stack, name, tile, times, shared=transport == "shared_memory")
            if transport not in best or measured["latency_ms"] < best[transport]["latency_ms"]:
                best[transport] = measured
    return best


def connect(stack: Stack, *, shared: bool) -> TritonServer:
    """With or without shared memory."""
    url = stack.environment()["OVERTILE_TRITON_URL"]
    return TritonServer(url, predict_seconds=120, load_seconds=120, shared_memory=shared)


def ask(stack: Stack, name: str, tile: Pixels, times: int, *, shared: bool) -> dict[str, float]:
    """Milliseconds per tile: the median latency, and the CPU time of both sides on average."""
    server, pid = connect(stack, shared=shared), stack.process("triton").pid
    answer = server.infer(name, tile).shape
    latencies: list[float] = []
    for number in range(WARM_UP + times):
        if number == WARM_UP:
            ours, tritons = time.process_time(), _cpu_seconds(pid)
        slot = server.lend_slot(tile.shape, answer)
        if (slot.place is not None) != shared:
            raise RuntimeError("the tile went another way than it should")
        begun = time.perf_counter()
        slot.tiles[:] = tile
        server.infer_slot(name, slot)
        latencies.append(time.perf_counter() - begun)
        server.take_back(slot)
    ours, tritons = time.process_time() - ours, _cpu_seconds(pid) - tritons
    server.close()
    return {
        "latency_ms": round(1000 * median(latencies[WARM_UP:]), 1),
        "worker_cpu_ms": round(1000 * ours / times, 1),
        "triton_cpu_ms": round(1000 * tritons / times, 1),
    }


def _cpu_seconds(pid: int) -> float:
    """Of a process and those it started."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return float(sum(each.cpu_times().user + each.cpu_times().system for each in family))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transport", description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=2240, help="of the tile, px")
    parser.add_argument("--times", type=int, default=20, help="tiles of a round")
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 16, 32], help="of the UNet")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
