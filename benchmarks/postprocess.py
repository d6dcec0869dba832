"""What do objects cost, after the network: telling them apart, measuring them, writing them down?

    python -m benchmarks.postprocess [--gigapixels 2.0] [--small 0.2] [--pictures FOLDER]

A stained slide of drawn nuclei, about a million of them in 2 GPx, is segmented as any slide is, with a network that
costs next to nothing. What counts is the time from the first block of objects to the end of the summary, by the
database's clock: probabilities read back from the store, objects found, measured, joined across blocks and written, the
mask, the levels of the Zarr, the overlay, the page. A smaller slide goes before it, so that peaks of memory compare.
Then what a user downloads is opened by the readers that others use, and what they read is held against each other.

`network_seconds` is what the UNet of 31 million weights would need for as many pixels: the bare engine with the network
alone, in its best round before or after, on tiles of 2240 px that are all core, which no tiling reaches.

Progress goes to stderr. The last line of stdout is one JSON object; `benchmarks/RESULTS.md` explains its keys.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.bare_engine import BareEngine, Pace
from benchmarks.drawn_slide import RedNetwork, draw_field, save_nuclei_slide
from benchmarks.hosting import Host, Run, add_setting, run_platform
from benchmarks.images import take_picture
from benchmarks.machine import describe_machine
from benchmarks.memory import PeakMemory
from benchmarks.networks import count_parameters, export_alone, make_network
from benchmarks.readers import draw_labels, read_exports
from services.trainer.export import export_model
from shared.schemas.outputs import Output

OUTPUTS: tuple[Output, ...] = ("mask", "overlay", "ome_zarr", "table", "geojson")
COUNTED = ("label", "assemble", "summarise")  # stages after the network
WIDTHS = [64, 128, 256, 512, 1024]  # 31,043,521 weights
TILE = 2240  # px, as the platform cuts for it
TIMES = 4  # tiles of a round of the engine
WARM_UP = 0.017  # GPx; loads the model
WORKERS = ("worker-1", "worker-2")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _parse(arguments)
    machine = describe_machine()
    with TemporaryDirectory(prefix="overtile-bench-") as name:
        folder = Path(name)
        engine, parameters = _prepare_engine(folder, skipped=options.skip_network)
        paces = _run_engine(engine)
        with run_platform(folder / "platform", dict(options.setting), workers=len(WORKERS)) as host:
            host.register(export_model(RedNetwork(), card={"weights": "set by hand, for benchmarks"}))
            segment(host, folder, WARM_UP)
            jobs = [measure(host, folder, size, options) for size in (options.small, options.gigapixels)]
        paces += _run_engine(engine)
    report = describe(jobs, paces)
    print(json.dumps({**report, "parameters": parameters, "machine": machine}, ensure_ascii=False), flush=True)


def segment(host: Host, folder: Path, size: float, outputs: Sequence[str] = OUTPUTS) -> Run:
    """Segment a slide of about `size` gigapixels."""
    path = folder / f"{size}.tiff"
    _say(f"writing a slide of {size} GPx ...")
    save_nuclei_slide(path, size * 1e9)
    _say(f"{path.stat().st_size / 1e6:.0f} MB: segmenting ...")
    run = host.segment(path, empty_tiles="predict", outputs=list(outputs))
    path.unlink()
    return run


def measure(host: Host, folder: Path, size: float, options: argparse.Namespace) -> dict[str, Any]:
    """Segment a slide and read what came of it; what it took, and what was read."""
    outputs: tuple[str, ...] = (*OUTPUTS, "ome_tiff") if size == options.small else OUTPUTS
    with PeakMemory(host, WORKERS) as memory:
        run = segment(host, folder, size, outputs)
    pixels = run.facts["height"] * run.facts["width"]
    stages = {stage.stage: {"wall": stage.wall_seconds, **stage.busy_seconds} for stage in run.job.stages}
    found = {
        "gigapixels": round(pixels / 1e9, 3),
        "seconds": round(sum(stages[name]["wall"] for name in COUNTED), 1),
        "seconds_job": round(run.seconds, 1),
        "rss_mb": {name: round(peak / 1e6) for name, peak in memory.peaks().items()},
        "outputs": outputs,
        "stages": stages,
    }
    _say(json.dumps(found))
    exports = folder / f"exports-{size}"
    files = host.download(run, exports)
    found["megabytes"] = round(sum(path.stat().st_size for path in files) / 1e6)
    found["read"] = read_exports(exports, height=run.facts["height"], width=run.facts["width"])
    _say(json.dumps(found["read"]))
    if options.pictures is not None:
        options.pictures.mkdir(parents=True, exist_ok=True)
        shutil.copy(next(exports.rglob("*.overlay.png")), options.pictures)
        draw_labels(exports, options.pictures / f"{size}.labels.png")
    shutil.rmtree(exports)
    return found


def describe(jobs: Sequence[Mapping[str, Any]], paces: Sequence[Pace]) -> dict[str, Any]:
    """The figures: of the larger slide, and how much more memory it took than the smaller one.

    Memory is that of the worker that took more: it is chance which of them assembles an image.
    """
    small, large = jobs
    seconds: dict[str, Any] = {"seconds": large["seconds"]}
    if paces:
        pace = min(paces, key=lambda pace: pace.seconds)
        network = pace.seconds / TILE**2 * large["gigapixels"] * 1e9
        seconds |= {
            "ratio_network": round(large["seconds"] / network, 3),
            "network_seconds": round(network),
            "network_seconds_each": [round(each.seconds / TILE**2 * large["gigapixels"] * 1e9) for each in paces],
            "engine_share_of_cores": round(pace.share, 3),
        }
    return {
        **seconds,
        "rss_growth": round(max(large["rss_mb"].values()) / max(small["rss_mb"].values()), 3),
        "objects": large["read"]["objects"],
        "us_per_pixel": round(large["seconds"] / large["gigapixels"] / 1e3, 3),
        "jobs": list(jobs),
    }


def _prepare_engine(folder: Path, *, skipped: bool) -> tuple[BareEngine | None, int | None]:
    """The network of 31 million weights as the bare engine runs it, and how many they are."""
    if skipped:
        return None, None
    _say("exporting the network that the time is compared with (about a minute) ...")
    network = make_network(WIDTHS, draw_field())
    tile = take_picture(draw_field(), TILE, 0)
    return BareEngine(export_alone(network, tile.shape), tile, folder / "engine"), count_parameters(network)


def _run_engine(engine: BareEngine | None) -> list[Pace]:
    if engine is None:
        return []
    _say(f"the engine, {TIMES} tiles ...")
    return [engine.run(TIMES)]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.postprocess", description=__doc__.splitlines()[0])
    parser.add_argument("--gigapixels", type=float, default=2.0, help="of the slide that counts")
    parser.add_argument("--small", type=float, default=0.2, help="of the one its memory is compared with, gigapixels")
    parser.add_argument("--pictures", type=Path, help="folder to leave overlays and a piece of the labels in")
    parser.add_argument("--skip-network", action="store_true", help="leave out what the time is compared with")
    add_setting(parser)
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
