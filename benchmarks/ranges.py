"""How much of a slide in the object store is read for a region of it, and is that faster than fetching the slide?

    python -m benchmarks.ranges [--side 20480] [--share 0.05] [--regions 5]

A pyramid of tiles of 256 px, once in JPEG and once uncompressed, is put into the store of the local stack. Regions at
random places, of that share of its pixels, are read by ranges and from a copy that is fetched first; each opens the
slide anew and finds nothing kept. The tiles are those of the real slide in `--data` (of drawn nuclei, if there is
none), in random order: as large as a scanner's, whatever they show.

Progress goes to stderr. The last line of stdout is one JSON object: `ratio_bytes` is the bytes read ÷ the bytes of the
file for a region of the JPEG pyramid, header included.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from benchmarks.images import JPEG_QUALITY, TILE, load_source, take_picture
from benchmarks.inference import DATA
from benchmarks.machine import describe_machine
from deploy.local.stack import Stack
from shared.imaging.tiling import Box, Pixels
from shared.settings import Settings
from shared.slides import RangedSource, open_slide
from shared.storage import Storage

KINDS = ("jpeg", "uncompressed")
TILES = 200  # different ones
OVERVIEW = 2048  # px


@dataclass(frozen=True)
class Slide:
    """A pyramid on disk and in the store."""

    path: Path
    key: str
    bytes: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _parse(arguments)
    machine = describe_machine()
    name, source = load_source(options.data)
    tiles = [take_picture(source, TILE, number) for number in range(TILES)]
    with (
        TemporaryDirectory(prefix="overtile-bench-") as place,
        Stack(Path(place) / "stack", durable=False, servers=("postgres", "valkey", "s3")) as stack,
    ):
        storage = connect(stack)
        report = {}
        for kind in KINDS:
            _say(f"writing a pyramid, {kind} ...")
            path = save_pyramid(Path(place) / f"{kind}.tiff", tiles, options.side, kind=kind)
            slide = Slide(path, storage.put_file(f"benchmarks/{kind}", path).key, path.stat().st_size)
            _say(f"reading {options.regions} regions ...")
            report[kind] = measure(storage, slide, choose_regions(options))
            path.unlink()
    facts = {"side_px": options.side, "share": options.share, "picture": name, "machine": machine}
    print(json.dumps({"ratio_bytes": report["jpeg"]["ratio_bytes"], **report, **facts}, ensure_ascii=False), flush=True)


def connect(stack: Stack) -> Storage:
    """The store of the stack."""
    names = {name.removeprefix("OVERTILE_").lower(): value for name, value in stack.environment().items()}
    return Storage(Settings.model_validate({name: names[name] for name in Settings.model_fields if name in names}))


def save_pyramid(path: Path, tiles: Sequence[Pixels], side: int, *, kind: str) -> Path:
    """A square slide with levels down to one tile, written tile by tile."""
    generator = np.random.default_rng(0)
    options: dict[str, Any] = {"tile": (TILE, TILE), "dtype": np.uint8, "photometric": "rgb"}
    choices: Sequence[Any] = tiles
    if kind == "jpeg":
        options |= {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 2)}  # as the encoder does
        choices = [bytes(imagecodecs.jpeg_encode(tile, level=JPEG_QUALITY)) for tile in tiles]

    def shuffled(size: int) -> Iterator[Any]:
        for _ in range(math.ceil(size / TILE) ** 2):
            yield choices[int(generator.integers(len(choices)))]

    sides = [side]
    while sides[-1] > TILE:
        sides.append(sides[-1] // 2)
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(shuffled(side), shape=(side, side, 3), subifds=len(sides) - 1, **options)
        for smaller in sides[1:]:
            file.write(shuffled(smaller), shape=(smaller, smaller, 3), subfiletype=1, **options)
    return path


def choose_regions(options: argparse.Namespace) -> list[Box]:
    """Squares of that share of the slide, anywhere in it, mostly across the borders of tiles."""
    generator = np.random.default_rng(1)
    size = round(options.side * math.sqrt(options.share))
    corners = generator.integers(0, options.side - size, (options.regions, 2)).tolist()
    return [Box(top, left, top + size, left + size) for top, left in corners]


def measure(storage: Storage, slide: Slide, regions: Sequence[Box]) -> dict[str, Any]:
    """Bytes and seconds of both ways, on the average of the regions."""
    ranged, seconds_ranged, seconds_staged = [], [], []
    for region in regions:
        begun = time.perf_counter()
        source = ranges_of(storage, slide)
        with open_slide(source) as opened:
            pixels = opened.read(region)
        seconds_ranged.append(time.perf_counter() - begun)
        ranged.append(source)
        begun = time.perf_counter()
        copy = slide.path.with_suffix(".staged")
        storage.get_file(slide.key, copy)
        with open_slide(copy) as opened:
            if not np.array_equal(opened.read(region), pixels):
                raise RuntimeError("the two ways gave different pixels")
        seconds_staged.append(time.perf_counter() - begun)
        copy.unlink()
    overview = ranges_of(storage, slide)
    with open_slide(overview) as opened:
        opened.overview(OVERVIEW)
    return {
        "ratio_bytes": round(mean(source.bytes_fetched for source in ranged) / slide.bytes, 4),
        "requests": round(mean(source.requests for source in ranged), 1),
        "ranged_s": round(median(seconds_ranged), 2),
        "staged_s": round(median(seconds_staged), 2),
        "ratio_bytes_of_overview": round(overview.bytes_fetched / slide.bytes, 4),
        "file_bytes": slide.bytes,
    }


def ranges_of(storage: Storage, slide: Slide) -> RangedSource:
    """The slide where it lies, nothing of it fetched yet."""
    return RangedSource(lambda offset, count: storage.read_range(slide.key, offset, count), slide.bytes)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ranges", description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=20_480, help="of the slide, px")
    parser.add_argument("--share", type=float, default=0.05, help="of the slide that a region has")
    parser.add_argument("--regions", type=int, default=5, help="how many are read")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with real slides; without it, one is drawn")
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
