"""What does the platform cost for each of many small images, beyond what their network costs?

    python -m benchmarks.small_images [--count 10000] [--widths 16 32 64 128 256]

So many PNGs of 256 px go through the platform as one dataset and one job, after a smaller job that loads the model and
compiles its batches. The time runs from submitting the job until the SDK's `wait` returns; uploading is not in it. The
bare engine predicts batches of the same graph, as large as the platform's, in Triton's environment, before and after;
the better of the two counts.

Progress goes to stderr. The last line of stdout is one JSON object; `benchmarks/RESULTS.md` explains its keys.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.bare_engine import BareEngine, Pace
from benchmarks.hosting import Run, add_setting, run_platform
from benchmarks.images import load_source, save_small_pictures, take_picture
from benchmarks.inference import DATA
from benchmarks.machine import describe_machine
from benchmarks.networks import count_parameters, export_network, make_network
from services.worker.settings import WorkerSettings
from services.worker.stages.bundle import LARGEST_BATCH

WARM_UP = 300  # images at most
TIMES = 8  # batches of the bare engine


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _parse(arguments)
    machine = describe_machine()
    name, source = load_source(options.data)
    network = make_network(options.widths, source)
    export = export_network(network)
    with TemporaryDirectory(prefix="overtile-bench-") as place:
        folder = Path(place)
        few, many = folder / "few", folder / "many"
        for images, count in ((few, min(options.count, WARM_UP)), (many, options.count)):
            images.mkdir()
            save_small_pictures(source, images, count)
        with run_platform(folder / "platform", dict(options.setting)) as host:
            host.register(export)
            _say("warming up ...")
            side = host.segment(few).facts["core"] + 2 * export.contract.halo
            batch = options.batch or find_batch(side, dict(options.setting))
            tiles = np.stack([take_picture(source, side, number) for number in range(batch)])
            engine = BareEngine(export.files["model.onnx"], tiles, folder / "engine")
            before = engine.run(TIMES)
            _say(f"{options.count} images ...")
            run = host.segment(many)
            pace = min(before, engine.run(TIMES), key=lambda pace: pace.seconds)
    report = describe(run, pace, count=options.count, batch=batch)
    facts = {"parameters": count_parameters(network), "read_px": side, "picture": name, "engine": pace.facts}
    print(json.dumps({**report, **facts, "machine": machine}, ensure_ascii=False), flush=True)


def find_batch(side: int, settings: Mapping[str, str]) -> int:
    """How many tiles of so many px the worker sends at once, with these settings."""
    pixels = int(settings.get("OVERTILE_BATCH_PIXELS", WorkerSettings.model_fields["batch_pixels"].default))
    return min(max(pixels // side**2, 1), LARGEST_BATCH)


def describe(run: Run, pace: Pace, *, count: int, batch: int) -> dict[str, Any]:
    """The figures, each for one image."""
    spent = sum(run.cpu_seconds.values())
    return {
        "images": count,
        "images_per_s": round(count / run.seconds, 2),
        "platform_ms": round(1e3 * run.seconds / count, 2),
        "engine_ms": round(1e3 * pace.seconds / batch, 2),
        "cost_ms": round(1e3 * (run.seconds / count - pace.seconds / batch), 2),
        "platform_cpu_ms": round(1e3 * spent / count, 2),
        "engine_cpu_ms": round(1e3 * pace.cpu_seconds / batch, 2),
        "cost_cpu_ms": round(1e3 * (spent / count - pace.cpu_seconds / batch), 2),
        "cpu_ms": {name: round(1e3 * seconds / count, 2) for name, seconds in run.cpu_seconds.items()},
        "seconds": round(run.seconds, 2),
        "seconds_inside": round(run.seconds_inside, 2),
        "batch": batch,
        "engine_share_of_cores": round(pace.share, 3),
        "stages": {
            stage.stage: {"blocks": stage.blocks, "wall": stage.wall_seconds, **stage.busy_seconds}
            for stage in run.job.stages
        },
    }


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small_images", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="of the images")
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64, 128, 256], help="of the UNet")
    parser.add_argument(
        "--batch", type=int, help="tiles that the bare engine takes at once; as the platform's if left out"
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder with real slides; without it, one is drawn")
    add_setting(parser)
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
