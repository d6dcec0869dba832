"""The bare engine: one tile, predicted over and over, nothing around it.

Runs in Triton's environment, which holds openvino and nothing of this repository:

    python engine.py GRAPH.onnx TILE.npy TIMES

Prints one JSON object: what it ran on, and the seconds and CPU seconds of each prediction after a first one that does
not count.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import openvino as ov


def main() -> None:
    """See the module."""
    graph, tile_file, times = sys.argv[1:]
    tile = np.load(tile_file)
    core = ov.Core()
    model = core.read_model(graph)
    model.reshape(tile.shape)
    options = {
        "INFERENCE_PRECISION_HINT": choose_precision(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
    }
    request = core.compile_model(model, "CPU", options).create_infer_request()
    request.infer({0: tile}, share_inputs=True)
    seconds, cpu_seconds = [], []
    for _ in range(int(times)):
        begun, cpu_begun = time.perf_counter(), time.process_time()
        request.infer({0: tile}, share_inputs=True)
        seconds.append(time.perf_counter() - begun)
        cpu_seconds.append(time.process_time() - cpu_begun)
    facts = {"openvino": ov.__version__.split("-")[0], "options": options}
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "facts": facts}))


def choose_precision() -> str:
    """As the platform's model versions do: bf16 where the processor computes in it."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return "bf16" if {"amx_bf16", "avx512_bf16"} & set(flags) else "f32"


main()
