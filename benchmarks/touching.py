"""How well are nuclei told apart that touch: without parting them, by watershed, and by a network taught to part them?

    python -m benchmarks.touching --data DIR
    python -m benchmarks.touching --data DIR --plain FOLDER --weighted FOLDER

`--data` holds `{train,val}/{images,masks}` with instance masks, such as DSB2018. Without folders of exported models it
trains two networks alike, beginning with `--start`: one plainly, one for which touching objects are parted by a line of
background that weighs more (Ronneberger et al. 2015). Every seventh image of `train` is held out; it chooses the epoch
and the threshold. `--grid` scores rules on these images instead, and is how the rules' defaults were chosen.

True objects touch if pixels of theirs are neighbours, corners included (`near`: with up to 2 px between). Their AP
counts the touching objects found and missed, and of what was found where they are, that which matches none.

Progress goes to stderr. The last line of stdout is one JSON object: for each network and way of telling objects apart
`ap50`, `ap50_95` (means over images), the same `_touching` and `_near` (all such objects together),
`count_error_touching` (the sum over clusters of |found − true|, by true objects), `merges`, `splits` (all objects);
and how much the means differ from those of the plain network's components, with 95 % bootstrap intervals.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.stored_model import StoredModel
from benchmarks.touching_objects import Image, Tally, Way, list_ways, tally
from benchmarks.training import train_recipe
from services.trainer.data import find_pairs_in
from shared.annotations import read_values
from shared.errors import Rejected
from shared.imaging.objects.rules import ObjectRules
from shared.imaging.tiling import Box
from shared.slides import open_slide

RECIPE = "nuclei-starter"
STARTER = Path(__file__).resolve().parents[1] / "models" / RECIPE
HELD = 7  # every so many training images one is held out
SCHEDULE = ["epochs=6", "crops_per_image=2", "learning_rate=0.001", 'masks.kind="instances"']
WEIGHTED = ["masks.separate=true", 'loss.border={"w0":10,"sigma":5}']
GRID: dict[str, list[Any]] = {
    "smoothing": [0.75, 1.0, 1.5],
    "depth": [0.3, 0.5, 0.75, 1.0],
    "relative_depth": [0.0, 0.06, 0.1],
    "seed_threshold": [None, 0.7],
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train or take both networks, tell objects apart in every way, print."""
    options = _parse(arguments)
    folders = {"plain": options.plain, "weighted": options.weighted}
    report: dict[str, Any] = {"grid" if options.grid else "methods": {}}
    scores: dict[str, Tally] = {}
    for kind, folder in folders.items():
        model = StoredModel(folder or _train(options, kind))
        threshold = float(model.describe()["threshold"])
        rules = replace(ObjectRules(threshold), **dict(options.set))
        images = list(read_images(model, options.data, held=options.grid))
        if options.grid:
            report["grid"][kind] = search(rules, images)
        else:
            scores |= {f"{kind}_{way.name}": _score(kind, way, images) for way in list_ways(rules)}
        report[kind] = {"threshold": threshold, "images": len(images)}
    baseline = "plain_components"
    for name, score in scores.items():
        report["methods"][name] = score.describe() | {f"above_{baseline}": score.compare(scores[baseline])}
    print(json.dumps({**report, "machine": describe_machine()}), flush=True)


def read_images(model: StoredModel, data: Path, *, held: bool) -> Iterator[Image]:
    """The validation images, or those held out of training: what the network says of each, and what is true."""
    folder = data / ("train" if held else "val")
    pairs = sorted(find_pairs_in(folder / "images", folder / "masks"))
    for name, image, mask in pairs[:: HELD if held else 1]:
        with open_slide(image, name=name) as slide:
            rgb = slide.read(Box(0, 0, slide.height, slide.width))
        yield model.predict_planes(rgb), read_values(mask, name).astype(np.int64)


def search(rules: ObjectRules, images: Sequence[Image]) -> list[dict[str, Any]]:
    """The scores of every combination of `GRID`, the highest AP first."""
    rows = []
    for values in product(*GRID.values()):
        changes = dict(zip(GRID, values, strict=True))
        rows.append({**changes, **tally(Way("grid", replace(rules, **changes)), images).describe()})
        _say(f"{changes}: AP50 {rows[-1]['ap50']}, of touching {rows[-1]['ap50_touching']}")
    return sorted(rows, key=lambda row: -float(row["ap50_95"]))


def _score(kind: str, way: Way, images: Sequence[Image]) -> Tally:
    scores = tally(way, images)
    _say(f"{kind}, {way.name}, {asdict(way.rules)}: {scores.describe()}")
    return scores


def _train(options: argparse.Namespace, kind: str) -> Path:
    """The folder of a network trained plainly, or with weighted borders."""
    train = options.data / "train"
    held = [name for name, _, _ in sorted(find_pairs_in(train / "images", train / "masks"))[::HELD]]
    split = ['split.by="list"', f"split.validation={json.dumps(held)}"]
    order = argparse.Namespace(
        recipe=RECIPE,
        full=False,
        labels=1.0,
        start=options.start,
        save=Path(mkdtemp(prefix=f"overtile-{kind}-")),
        train_images=train / "images",
        train_masks=train / "masks",
        set=[*SCHEDULE, *split, *(WEIGHTED if kind == "weighted" else []), *options.train],
    )
    return train_recipe(order)[0]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.touching", description="Train or take, part, score.")
    parser.add_argument("--data", type=Path, required=True, help="folder of {train,val}/{images,masks}")
    parser.add_argument("--plain", type=Path, help="folder of a model trained plainly")
    parser.add_argument("--weighted", type=Path, help="folder of a model trained with weighted borders")
    parser.add_argument("--start", type=Path, default=STARTER, help="folder of a model whose weights both begin with")
    parser.add_argument("--grid", action="store_true", help="score rules on the held-out training images instead")
    parser.add_argument("--set", action="append", default=[], type=_read_rule, metavar="RULE=JSON", help="of all ways")
    parser.add_argument("--train", action="append", default=[], metavar="FIELD=JSON", help="override the schedule")
    return parser.parse_args(arguments)


def _read_rule(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    return name, json.loads(value)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except Rejected as error:
        raise SystemExit(f"{error}") from error
