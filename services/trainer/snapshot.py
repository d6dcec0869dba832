"""Where a training stands, as bytes: enough to go on as if nothing had happened."""

import io
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from services.trainer.history import Epoch

Weights = dict[str, Tensor]


@dataclass
class Snapshot:
    """Taken after whole steps of the optimiser. Crops, augmentation and dropout follow from seed, epoch and step."""

    counts: Tensor  # confusion matrix of the batches of this epoch that are done, rows are the truth
    epoch: int = 1  # being worked on, from 1
    step: int = 0  # batches of it that are done
    losses: list[float] = field(default_factory=list)  # of those batches
    spent: float = 0.0  # seconds worked before, over all tries
    spent_in_epoch: float = 0.0
    history: list[Epoch] = field(default_factory=list)
    weights: Weights = field(default_factory=dict)
    best_weights: Weights = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    panels: dict[int, bytes] = field(default_factory=dict)  # PNG by epoch that was the best so far

    def to_bytes(self) -> bytes:
        """Tensors and plain values alone: reading them back can run no code."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain["history"] = [asdict(epoch) for epoch in self.history]
        plain["panels"] = {
            epoch: torch.frombuffer(bytearray(png), dtype=torch.uint8) for epoch, png in self.panels.items()
        }
        buffer = io.BytesIO()
        torch.save(plain, buffer)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, body: bytes) -> "Snapshot":
        """Raises an error of torch's for bytes that are no snapshot."""
        plain = torch.load(io.BytesIO(body), weights_only=True, map_location="cpu")
        plain["history"] = [Epoch(**epoch) for epoch in plain["history"]]
        plain["panels"] = {epoch: bytes(png.numpy()) for epoch, png in plain["panels"].items()}
        return cls(**plain)
