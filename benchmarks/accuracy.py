"""How right is a model, on images with known masks?

    python -m benchmarks.accuracy --recipe nuclei-starter --images DIR --masks DIR
    python -m benchmarks.accuracy --model nuclei-starter --images DIR --masks DIR

With `--recipe` it trains first, on the recipe's own kind of images (`--train-images`, `--train-masks`); without a
graphics card in the recipe's small variant, unless `--full` is said. With `--model` it takes a folder of `models/`, any
other folder that holds an exported model, or the name or alias of a registered one on a running platform
(`OVERTILE_URL`, `OVERTILE_API_KEY`). The model predicts through the platform's own tiling, with the threshold and the
closing that it recommends.

Foreground is mask > 0. Progress goes to stderr. The last line of stdout is one JSON object: means over the images
(`accuracy`, `precision`, `recall`, `f1`, `jaccard`, `weighted_iou`) with their 95 % intervals, the same over all pixels
(`pooled_…`), for instance masks `ap50`, `ap50_95`, `pq`, `aji`, for binary ones the scores of the ISBI 2012 challenge.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import overtile
from numpy.typing import NDArray
from pydantic import ValidationError

from benchmarks.machine import describe_machine
from benchmarks.registered_model import RegisteredModel
from benchmarks.stored_model import StoredModel
from benchmarks.training import train_recipe
from services.trainer.data import find_pairs_in
from shared.annotations import read_values
from shared.errors import Rejected
from shared.imaging.metrics.evaluation import score_borders, score_image
from shared.imaging.metrics.pixels import Confusion
from shared.imaging.metrics.summary import as_csv, as_parquet, summarise
from shared.schemas.recipes import RECIPES

MODELS = Path(__file__).resolve().parents[1] / "models"
MANY = 8  # larger numbers in a mask are of objects, not of classes
LOOKED_AT = 32  # masks

Row = dict[str, str | float | None]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train or take, predict, score, print."""
    options = _parse(arguments)
    pairs = find_pairs_in(options.images, options.masks)
    training: dict[str, Any] = {}
    if options.model is None:
        folder, training = train_recipe(options)
        model: StoredModel | RegisteredModel = StoredModel(folder)
    else:
        model = find_model(options.model)
    begun = time.perf_counter()
    kind = guess_kind(pairs) if options.kind == "auto" else options.kind
    rows, pooled = score(model, pairs, kind=kind)
    report = {
        "recipe": options.recipe,
        "model": options.model or options.recipe,
        "masks": kind,
        **describe(rows, pooled),
        **model.describe(),
        "seconds": round(time.perf_counter() - begun, 1),
        **training,
        "machine": describe_machine(),
    }
    if options.table is not None:
        options.table.write_bytes(as_parquet(rows) if options.table.suffix == ".parquet" else as_csv(rows))
    print(json.dumps(report, ensure_ascii=False), flush=True)


def find_model(name: str) -> StoredModel | RegisteredModel:
    """A folder of `models/`, a path, or a registered model."""
    for folder in (MODELS / name, Path(name)):
        if (folder / "contract.json").is_file():
            return StoredModel(folder)
    return RegisteredModel(name)


def score(
    model: StoredModel | RegisteredModel, pairs: Sequence[tuple[str, Path, Path]], *, kind: str
) -> tuple[list[Row], Confusion]:
    """A row per image, and the counts of all their pixels. `kind` is what the numbers of the masks mean."""
    rows: list[Row] = []
    pooled = Confusion()
    predictions = model.predict([(name, image) for name, image, _ in pairs])
    for number, ((name, _, mask), prediction) in enumerate(zip(pairs, predictions, strict=True), 1):
        truth, found = read_truth(mask, name), prediction.foreground
        is_told = kind == "instances"
        scores = score_image(truth, found, truth_is_instances=is_told, found_instances=prediction.objects)
        row: Row = {"name": name, **scores}
        if kind == "binary":
            row |= score_borders(truth != 0, found)
        pooled += Confusion.of(truth != 0, found)
        rows.append(row)
        _say(f"{number} of {len(pairs)}: {name}: Jaccard {row['jaccard']:.3f}")
    return rows, pooled


def guess_kind(pairs: Sequence[tuple[str, Path, Path]]) -> str:
    """From the first masks: 1 or 255 alone is binary, numbers up to `MANY` are classes, larger ones number objects."""
    values = np.unique(np.concatenate([np.unique(read_truth(mask, name)) for name, _, mask in pairs[:LOOKED_AT]]))
    if len(values) <= 2 and set(values.tolist()) <= {0, 1, 255}:
        return "binary"
    return "classes" if values.max() <= MANY else "instances"


def read_truth(mask: Path, name: str) -> NDArray[np.int64]:
    """One whole number per pixel (H, W)."""
    return read_values(mask, name).astype(np.int64)


def describe(rows: Sequence[Row], pooled: Confusion) -> dict[str, Any]:
    """Means over the images, their intervals, and the pooled scores."""
    means = summarise(rows)
    return {
        "images": len(rows),
        **{name: round(mean.mean, 4) for name, mean in means.items()},
        **{f"pooled_{name}": round(value, 4) for name, value in pooled.scores().items()},
        "intervals": {name: [round(mean.low, 4), round(mean.high, 4)] for name, mean in means.items()},
    }


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description="Train or take, predict, score.")
    parser.add_argument("--recipe", choices=sorted(RECIPES), help="train by this recipe, unless --model is given")
    parser.add_argument("--model", help="a folder of models/, a path, or a registered name, name@3 or name@production")
    parser.add_argument("--images", type=Path, required=True, help="folder of images to score on")
    parser.add_argument("--masks", type=Path, required=True, help="folder of their masks, of the same names")
    parser.add_argument("--kind", choices=["auto", "instances", "binary", "classes"], default="auto", help="of masks")
    parser.add_argument("--train-images", type=Path, help="folder to learn from (default: the recipe's data)")
    parser.add_argument("--train-masks", type=Path)
    parser.add_argument("--full", action="store_true", help="as published, though there is no graphics card")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=JSON", help="override the recipe")
    parser.add_argument("--labels", type=float, default=1.0, help="share of the training images to learn from")
    parser.add_argument("--start", type=Path, help="folder of a model whose weights to begin with")
    parser.add_argument("--save", type=Path, help="folder to keep the trained model and its reports in")
    parser.add_argument("--table", type=Path, help="write the scores of each image to this .csv or .parquet")
    options = parser.parse_args(arguments)
    if options.recipe is None and options.model is None:
        parser.error("name a --recipe to train by, or a --model to take")
    if (options.train_images is None) != (options.train_masks is None):
        parser.error("--train-images and --train-masks go together")
    return options


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except (Rejected, overtile.OvertileError, ValidationError) as error:
        raise SystemExit(f"{error}") from error
