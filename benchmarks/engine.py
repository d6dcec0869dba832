"""The bare engine in a process of its own: one tile, predicted over and over, nothing around it.

Runs in Triton's environment, which holds openvino and nothing of this repository:

    python engine.py GRAPH.onnx TILE.npy PRECISION

Compiles the graph for the tile's shape, answers one line of JSON, and then one more for each number N read from stdin:
the seconds that each of N predictions took.
"""

import json
import os
import sys
import time

import numpy as np
import openvino as ov


def main() -> None:
    """See the module."""
    graph, tile_file, precision = sys.argv[1:]
    tile = np.load(tile_file)
    core = ov.Core()
    threads = len(os.sched_getaffinity(0))
    model = core.read_model(graph)
    model.reshape(tile.shape)
    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }
    request = core.compile_model(model, "CPU", options).create_infer_request()
    request.infer({0: tile}, share_inputs=True)
    say({"openvino": ov.__version__, "precision": precision, "threads": threads})
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            begun = time.perf_counter()
            request.infer({0: tile}, share_inputs=True)
            seconds.append(time.perf_counter() - begun)
        say(seconds)


def say(answer: object) -> None:
    """One line to whoever started us."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


main()
