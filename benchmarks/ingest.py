"""How fast is ingest, beside plainly decoding the same files?

    python -m benchmarks.ingest [--data FOLDER] [--count 2000]

A folder of images with masks becomes a dataset version, and an ingest job looks at all of it: hashes, decoding, masks
matched and checked, statistics, thumbnails, duplicates, the report. The time runs from submitting the job until the
SDK's `wait` returns. Before and after, each file is read from disk and decoded, one after the other in one process;
the faster round counts. Without a folder, fields of cells are drawn.

The last line of stdout is one JSON object; `benchmarks/RESULTS.md` explains its keys.
"""

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from benchmarks.hosting import add_setting, run_platform
from benchmarks.machine import describe_machine
from deploy.local import demo_images

DATA = Path("../shared/data/dsb2018/train")
SIDE = 256  # px of drawn images


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _parse(arguments)
    with TemporaryDirectory(prefix="overtile-bench-") as place:
        folder = Path(place) / "dataset"
        count = _fill(folder, options.data, options.count)
        before = decode_all(folder)
        with run_platform(Path(place) / "platform", dict(options.setting)) as host:
            run = host.run("ingest", folder)
        decoding = min(before, decode_all(folder))
    report = {
        "images": count,
        "images_per_s": round(count / run.seconds, 2),
        "decoding_images_per_s": round(count / decoding, 2),
        "ratio_decoding": round(run.seconds / decoding, 3),
        "seconds": round(run.seconds, 2),
        "cpu_ms": {name: round(1e3 * seconds / count, 2) for name, seconds in run.cpu_seconds.items()},
        "stages": {stage.stage: {"wall": stage.wall_seconds, **stage.busy_seconds} for stage in run.job.stages},
        "data": options.data.parent.name if options.data.is_dir() else "drawn",
        "machine": describe_machine(),
    }
    print(json.dumps(report, ensure_ascii=False), flush=True)


def decode_all(folder: Path) -> float:
    """Seconds in which one process reads and decodes every file below the folder."""
    begun = time.perf_counter()
    for path in sorted(folder.rglob("*.png")):
        with Image.open(path) as image:
            np.asarray(image)
    return time.perf_counter() - begun


def _fill(folder: Path, data: Path, count: int) -> int:
    """Images and masks of the data, or drawn ones, as many as there are up to `count`; returns how many."""
    for role in ("images", "masks"):
        (folder / role).mkdir(parents=True)
    if not data.is_dir():
        with TemporaryDirectory(prefix="overtile-bench-") as drawn:
            for name, path in demo_images.draw(Path(drawn), count=count, side=SIDE).items():
                shutil.copy(path, folder / name)
        return count
    names = sorted(path.name for path in (data / "images").iterdir())[:count]
    for name in names:
        for role in ("images", "masks"):
            shutil.copy(data / role / name, folder / role / name)
    return len(names)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="of the images, at most")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with `images` and `masks`; else they are drawn")
    add_setting(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
