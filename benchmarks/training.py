"""A recipe, trained in this process by the platform's trainer, without a platform around it."""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from uuid import UUID

import numpy as np
import torch

from services.trainer.data import find_pairs_in, load_images, load_samples
from services.trainer.devices import make_fabric
from services.trainer.evaluation import evaluate
from services.trainer.export import export_model
from services.trainer.fetching import load_weights
from services.trainer.history import Epoch
from services.trainer.job import draw_reports, quantiser_of, serving_of, write_card
from services.trainer.ranks import train_on_devices
from services.trainer.reports.panels import PanelRow, draw_panel
from services.trainer.snapshot import Snapshot
from services.trainer.train import Start
from shared.domain.orders.train import CHECKPOINT
from shared.schemas.training import TrainIn

Pair = tuple[str, Path, Path]  # name, image, mask

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SETS = {  # what each recipe was published on, or what stands in for it
    "nuclei-starter": ("dsb2018/train/images", "dsb2018/train/masks"),
    "unet-dsb2018": ("dsb2018/train/images", "dsb2018/train/masks"),
    "unet-pannuke": ("consep/train/images", "consep/train/classes"),
    "unet-original-em": ("isbi2012/train/images", "isbi2012/train/labels"),
    "unet-original-gowt1": ("gowt1/01/full/images", "gowt1/01/full/masks"),
    "unet-stn-sstem": ("isbi2012/train/images", "isbi2012/train/labels"),
}


def train_recipe(options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The folder with the exported model and its reports, and what was done, for the report.

    Raises:
        SystemExit: there are no images to learn from.
    """
    images, masks = _find_folders(options)
    order = make_order(options.recipe, small=not (options.full or torch.cuda.is_available()), changes=options.set)
    everything = find_pairs_in(images, masks)
    pairs = thin_out(everything, share=options.labels, seed=order.seed)
    start = find_start(order, everything, pairs, weights=options.start)
    _say(f"training {options.recipe} on {len(pairs)} images of {images}: {order.epochs} epochs at most ...")
    samples = load_samples(pairs, order)
    trained = train_on_devices(order, samples, listener=_Progress(order), start=start)
    fabric = make_fabric(order.precision)
    evaluation = evaluate(trained.network, trained.held, order=order, fabric=fabric, check=lambda: None)
    data = {"folder": "/".join(images.parts[-3:]), "images": len(pairs)}
    spec = {"parameters": order.model_dump(mode="json", exclude={"dataset_version"}), "dataset_version": data}
    card = write_card(spec, trained, evaluation, images=len(pairs))
    quantiser = quantiser_of(order, trained, evaluation, samples=samples, check=lambda: None)
    export = export_model(trained.network, card=card, serving=serving_of(order, evaluation), quantiser=quantiser)
    folder = options.save or Path(mkdtemp(prefix="overtile-model-"))
    write_files(folder, export.files)
    write_files(folder / "reports", draw_reports(trained, evaluation))
    _say(f"the model and its reports are in {folder}")
    facts = {
        "training_images": len(pairs) - len(trained.held),
        "training_seconds": round(trained.seconds, 1),
        "epochs": len(trained.history),
        "best_epoch": trained.best.epoch,
        "small": order.small,
    }
    return folder, facts


def make_order(recipe: str, *, small: bool, changes: Sequence[str]) -> TrainIn:
    """The recipe with changes such as `epochs=5` or `network.widths=[8,16]`."""
    fields: dict[str, Any] = {"kind": "train", "recipe": recipe, "small": small, "dataset_version": UUID(int=0)}
    for change in changes:
        path, _, value = change.partition("=")
        *groups, name = path.split(".")
        place = fields
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = json.loads(value)
    return TrainIn.model_validate(fields)


def find_start(order: TrainIn, everything: Sequence[Pair], learnt: Sequence[Pair], *, weights: Path | None) -> Start:
    """Weights of a stored model to begin with, and images whose masks are not looked at, if the order uses them."""
    others = [(name, image) for name, image, mask in everything if (name, image, mask) not in learnt]
    return Start(
        weights=None if weights is None else load_weights((weights / CHECKPOINT).read_bytes()),
        unlabelled=load_images(others, order) if order.localiser else (),
    )


def thin_out(pairs: Sequence[tuple[str, Path, Path]], *, share: float, seed: int) -> Sequence[tuple[str, Path, Path]]:
    """A share of the pairs, at least four, the same for the same seed."""
    count = min(max(round(share * len(pairs)), 4), len(pairs))
    chosen = np.random.default_rng(seed).permutation(len(pairs))[:count]
    return [pairs[index] for index in sorted(chosen)]


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Each under its name, which may hold folders."""
    for name, body in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


class _Progress:
    """A line for each epoch."""

    def __init__(self, order: TrainIn) -> None:
        self._order, self._begun = order, time.monotonic()

    def check(self) -> None:
        """Nobody cancels."""

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Said at the end of the epoch."""

    def epoch(self, epoch: Epoch, best: Epoch, panel: Sequence[PanelRow]) -> bytes | None:
        _say(
            f"{time.monotonic() - self._begun:6.0f} s  epoch {epoch.epoch} of {self._order.epochs}: "
            f"loss {epoch.train_loss:.4f}, validation {epoch.validation_loss:.4f}, "
            f"Dice {epoch.validation_dice:.4f} (best {best.validation_dice:.4f})"
        )
        return draw_panel(panel) if panel else None

    def wants_snapshot(self) -> bool:
        return False

    def save(self, snapshot: Snapshot) -> None:
        """Nothing is saved: whoever breaks this off begins anew."""


def _find_folders(options: argparse.Namespace) -> tuple[Path, Path]:
    if options.train_images is not None and options.train_masks is not None:
        return options.train_images, options.train_masks
    images, masks = (DATA / part for part in SETS[options.recipe])
    if not images.is_dir():
        raise SystemExit(f"{images} is not there; say what to learn from: --train-images DIR --train-masks DIR")
    return images, masks


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
