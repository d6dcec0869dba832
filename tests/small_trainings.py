"""Trainings of seconds: an order, samples that are drawn, and somebody who listens."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import numpy as np
import torch

from services.trainer.data import Sample
from services.trainer.history import Epoch
from services.trainer.reports.panels import PanelRow
from services.trainer.snapshot import Snapshot
from services.trainer.train import Start, Trained, train
from shared.imaging.drawing import draw_nuclei
from shared.schemas.training import TrainIn

NETWORK = {"widths": [4, 8], "channels": 3, "classes": 1}


AUGMENTED = {
    "augmentation": {"scale": 0.1, "rotate": 10, "translate": 4, "shear": 5, "contrast": 0.2, "brightness": 20},
    "network": {**NETWORK, "dropout": 0.2},
}


def make_order(**changes: Any) -> TrainIn:
    fields: dict[str, Any] = {
        "kind": "train",
        "dataset_version": UUID(int=0),
        "model": "nuclei",
        "network": NETWORK,
        "epochs": 2,
        "batch_size": 2,
        "crop": 32,
        "learning_rate": 1e-2,
        "deterministic": True,
    }
    return TrainIn.model_validate(fields | changes)


def draw_sample(name: str, *, height: int = 48, width: int = 40, seed: int = 0) -> Sample:
    image, labels = draw_nuclei(height, width, seed=seed, stain="fluorescence")
    return Sample(name, image, (labels > 0).astype(np.uint8))


SAMPLES = [draw_sample(f"{index}.png", seed=index) for index in range(4)]


class Follower:
    """Keeps what it hears. Saves after every step, or never."""

    def __init__(self, *, saves: bool = False, check: Callable[[], None] = lambda: None) -> None:
        self.saves, self.check = saves, check
        self.steps: list[tuple[int, int, int]] = []
        self.epochs: list[Epoch] = []
        self.panels: list[Sequence[PanelRow]] = []
        self.snapshots: list[bytes] = []

    def step(self, epoch: int, step: int, steps: int) -> None:
        self.steps.append((epoch, step, steps))

    def epoch(self, epoch: Epoch, best: Epoch, panel: Sequence[PanelRow]) -> bytes | None:
        self.epochs.append(epoch)
        self.panels.append(panel)
        return b"picture" if panel else None

    def wants_snapshot(self) -> bool:
        return self.saves

    def save(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot.to_bytes())


def train_quietly(order: TrainIn, samples: Sequence[Sample] = SAMPLES, start: Start | None = None) -> Trained:
    return train(order, samples, listener=Follower(), start=start)


def assert_same_weights(one: Trained, other: Trained) -> None:
    first, second = one.network.state_dict(), other.network.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
