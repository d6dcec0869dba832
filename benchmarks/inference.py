"""How fast is the platform, against the engine inside it and against a peer?

    python -m benchmarks.inference [--size 4096] [--widths 64 128 256 512 1024] [--format pyramid] [--skip-monai]

Three things predict the same kind of picture with the same weights on the same cores:
- the bare engine: OpenVINO in Triton's environment, one tile as large as the platform's over and over, nothing around
  it: once the network alone, which knows of no halo, and once the graph that the platform serves;
- the platform: from submitting a job through the SDK until its `wait` returns, everything included (planning, reading,
  predicting, Zarr, mask, overlay, manifest), after a smaller job that loads and compiles the model;
- MONAI's sliding window with torch in fp32, on a smaller picture because it takes so long.
Platform and engine take turns, and the best round of each counts: other work on the machine can only slow them down.

Progress goes to stderr. The last line of stdout is one JSON object; `benchmarks/RESULTS.md` explains its keys.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.bare_engine import BareEngine, Pace
from benchmarks.hosting import Run, add_setting, run_platform
from benchmarks.images import FORMATS, load_source, save_picture, take_picture
from benchmarks.machine import describe_machine
from benchmarks.networks import count_parameters, export_alone, export_network, make_network
from benchmarks.peers import time_monai
from services.trainer.export import Export
from services.trainer.networks import UNet
from shared.imaging.tiling import Pixels, Tile, plan_blocks, plan_tiles, read_mirrored

QUIET = 0.95  # share of the cores below which the engine was disturbed
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True)
class Round:
    """One turn of each."""

    platform: Run
    network: Pace  # the engine with the network alone
    served: Pace  # the engine with the platform's graph


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _parse(arguments)
    machine = describe_machine()
    name, source = load_source(options.data)
    _say(f"picture: {name}, {options.size} × {options.size} px; exporting the network (about a minute) ...")
    network = make_network(options.widths, source)
    export = export_network(network)
    with TemporaryDirectory(prefix="overtile-bench-") as folder:
        rounds = measure(network, export, source, options, Path(folder))
    report = {
        **describe(rounds, halo=export.contract.halo),
        "parameters": count_parameters(network),
        "picture": f"{name}, {options.format}",
    }
    if report["engine_share_of_cores"] < QUIET:
        _say("even in its best round the engine had to share its cores: repeat this when the machine is quiet")
    if not options.skip_monai:
        _say(f"MONAI's sliding window on {options.monai_size} × {options.monai_size} px (about a minute) ...")
        seconds = time_monai(network, take_picture(source, options.monai_size, 0))
        speed = options.monai_size**2 / seconds / 1e6
        report |= {"ratio_monai": round(report["platform_mpx_s"] / speed, 2), "monai_mpx_s": round(speed, 4)}
    print(json.dumps({**report, "machine": machine}, ensure_ascii=False), flush=True)


def measure(network: UNet, export: Export, source: Pixels, options: argparse.Namespace, folder: Path) -> list[Round]:
    """Let platform and engine take turns. Each picture is another one, so that nothing of it is in a cache."""

    def segment(size: int, number: int) -> Run:
        picture = take_picture(source, size, number)
        return host.segment(save_picture(picture, folder / str(number), options.format), empty_tiles="predict")

    rounds: list[Round] = []
    with run_platform(folder / "platform", dict(options.setting)) as host:
        host.register(export)
        _say("warming up: a smaller job loads and compiles the model ...")
        segment(options.size // 2, 0)
        for number in range(1, options.rounds + 1):
            _say(f"round {number} of {options.rounds}: the platform ...")
            run = segment(options.size, number)
            tiles = cut(run.facts, export.contract.halo)
            if not rounds:  # the first plan tells how large the tiles are
                tile = read_mirrored(take_picture(source, options.size, number), tiles[0].read)
                served = BareEngine(export.files["model.onnx"], tile, folder / "served")
                alone = BareEngine(export_alone(network, tile.shape), tile, folder / "alone")
            _say(f"round {number} of {options.rounds}: the engine, 2 × {len(tiles)} tiles ...")
            turn = Round(run, alone.run(len(tiles)), served.run(len(tiles)))
            alone_for = turn.served.seconds * len(tiles)
            _say(f"the platform {run.seconds:.1f} s; the engine alone {alone_for:.1f} s for the same tiles")
            rounds.append(turn)
    return rounds


def cut(facts: Mapping[str, Any], halo: int) -> list[Tile]:
    """The tiles that the platform ran for an image it planned so."""
    blocks = plan_blocks(facts["height"], facts["width"], side=facts["block_side"])
    return [tile for block in blocks for tile in plan_tiles(block, core=facts["core"], halo=halo)]


def describe(rounds: list[Round], *, halo: int) -> dict[str, Any]:
    """The figures, each from the best round of its kind, and how far the rounds lie apart."""
    run = min((turn.platform for turn in rounds), key=lambda run: run.seconds)
    alone = min((turn.network for turn in rounds), key=lambda pace: pace.seconds)
    served = min((turn.served for turn in rounds), key=lambda pace: pace.seconds)
    tiles, pixels = cut(run.facts, halo), run.facts["height"] * run.facts["width"]
    read = tiles[0].read.height * tiles[0].read.width
    platform, engine = pixels / run.seconds / 1e6, read / alone.seconds / 1e6
    return {
        "ratio_engine": round(platform / engine, 3),
        "ratio_pipeline": round(len(tiles) * served.seconds / run.seconds, 3),
        "ratio_cpu": round(len(tiles) * least_cpu(rounds) / sum(run.cpu_seconds.values()), 3),
        "ratio_geometry": round(pixels / (len(tiles) * read), 3),
        "platform_mpx_s": round(platform, 3),
        "engine_mpx_s": round(engine, 3),
        "served_mpx_s": round(read / served.seconds / 1e6, 3),
        "seconds": round(run.seconds, 2),
        "seconds_inside": round(run.seconds_inside, 2),
        "rounds": [
            {
                "platform_seconds": round(turn.platform.seconds, 2),
                "engine_seconds_per_tile": round(turn.network.seconds, 3),
                "served_seconds_per_tile": round(turn.served.seconds, 3),
            }
            for turn in rounds
        ],
        "tiles": {"count": len(tiles), "core_px": run.facts["core"], "read_px": tiles[0].read.height},
        "block_px": run.facts["block_side"],
        "size_px": run.facts["height"],
        "warmed_up": "model loaded and its tile compiled by a smaller job",
        "engine": alone.facts,
        "stages": {stage.stage: {"wall": stage.wall_seconds, **stage.busy_seconds} for stage in run.job.stages},
        "cpu_seconds": run.cpu_seconds,
        "engine_share_of_cores": round(min(alone.share, served.share), 3),
        "engine_cpu_seconds_per_tile": round(least_cpu(rounds), 2),
    }


def least_cpu(rounds: list[Round]) -> float:
    """CPU seconds of the engine for one of the platform's tiles; other work on the machine hardly changes it."""
    return min(turn.served.cpu_seconds for turn in rounds)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096, help="side of the picture, px")
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 512, 1024], help="of the UNet")
    parser.add_argument("--rounds", type=int, default=3, help="turns of platform and engine; the best counts")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="of the picture's file")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with real slides; without it, one is drawn")
    parser.add_argument("--skip-monai", action="store_true", help="leave the slow peer out")
    parser.add_argument("--monai-size", type=int, default=1536, help="side of the peer's picture, px")
    add_setting(parser)
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
