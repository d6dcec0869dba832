"""The training loop: it reads from top to bottom."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from torch import nn

from services.trainer.data import Batch, Crops, Sample, split
from services.trainer.losses import pixel_loss
from services.trainer.networks import UNet, build_network
from services.trainer.networks.inputs import as_input
from services.trainer.validation import validate
from shared.errors import Rejected
from shared.schemas.jobs import TrainIn

_SECONDS_BETWEEN_NOTES = 2.0
_LARGEST_MODEL = 1_900_000_000  # bytes; a protobuf, and so an ONNX file, ends at 2 GB


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images achieved."""

    epoch: int  # from 1
    train_loss: float  # mean cross-entropy per pixel
    validation_loss: float
    validation_dice: float  # 0 … 1
    validation_iou: float  # 0 … 1
    seconds: float


@dataclass(frozen=True)
class Trained:
    """A trained network in evaluation mode, with the weights of its best epoch."""

    network: UNet
    history: list[Epoch]
    best: Epoch
    seconds: float


def train(
    order: TrainIn, samples: Sequence[Sample], *, check: Callable[[], None], note: Callable[[dict[str, Any]], None]
) -> Trained:
    """Train the ordered network and keep the epoch with the best validation Dice (of equals, the lowest loss).

    Adam (Kingma and Ba 2015); the learning rate falls to 0 along half a cosine (Loshchilov and Hutter 2017).
    The same order and samples give the same weights, on the same kind of processor with as many threads.

    `samples`: with the channels and classes of the ordered network. `check`: called at every step; what it raises ends
    the training and passes through. `note`: given the figures of an epoch at its end, the step every two seconds.

    Raises:
        Rejected: the order cannot work, or the loss is no number any more.
    """
    started = time.monotonic()
    torch.manual_seed(order.seed)
    fabric = Fabric(accelerator="auto", devices=1, precision=choose_precision())
    training, held = split(samples, fraction=order.validation_fraction, seed=order.seed)
    crops = Crops(training, side=order.crop, batch_size=order.batch_size, seed=order.seed)
    network = build_network(order.network)
    refuse_unworkable(order, network)
    adam = torch.optim.Adam(network.parameters(), lr=order.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, order.epochs * crops.steps)
    model, optimizer = fabric.setup(network, adam)
    progress = _Progress(note, epochs=order.epochs, steps=crops.steps)
    history: list[Epoch] = []
    best_weights = {}

    for number in range(1, order.epochs + 1):
        begun, losses = time.monotonic(), []
        network.train()
        for step, batch in enumerate(crops.draw(number), 1):
            check()
            loss = learn(batch, model, optimizer=optimizer, fabric=fabric)
            losses.append(finite(loss, epoch=number, step=step, rate=order.learning_rate))
            schedule.step()
            progress.tell_step(number, step)
        scores = validate(network, held, fabric=fabric, check=check)
        finite(scores.loss, epoch=number, step=crops.steps, rate=order.learning_rate)
        seconds = time.monotonic() - begun
        history.append(Epoch(number, math.fsum(losses) / crops.steps, scores.loss, scores.dice, scores.iou, seconds))
        best = max(history, key=lambda epoch: (epoch.validation_dice, -epoch.validation_loss))
        if best is history[-1]:
            best_weights = copy.deepcopy(network.state_dict())
        progress.tell_epoch(history[-1], best)

    network.load_state_dict(best_weights)
    return Trained(network.eval(), history, best, time.monotonic() - started)


def learn(batch: Batch, model: nn.Module, *, optimizer: torch.optim.Optimizer, fabric: Fabric) -> float:
    """One step of gradient descent; the batch's loss before it."""
    images, masks = fabric.to_device((torch.from_numpy(batch.images), torch.from_numpy(batch.masks)))
    loss = pixel_loss(model(as_input(images)), masks)
    optimizer.zero_grad()
    fabric.backward(loss)
    optimizer.step()
    return loss.item()


def choose_precision() -> Literal["bf16-mixed", "32-true"]:
    """bf16 arithmetic where the processor or graphics card has it in hardware: several times faster, as good."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    able = torch.cpu.get_capabilities()
    return "bf16-mixed" if able.get("amx_bf16") or able.get("avx512_bf16") else "32-true"


def refuse_unworkable(order: TrainIn, network: UNet) -> None:
    """Raise Rejected, with the mend, for an order that would fail after minutes or hours."""
    if order.crop % network.grid:
        nearest = max(round(order.crop / network.grid), 1) * network.grid
        raise Rejected(
            f"crop must be a multiple of {network.grid} px for a network of {network.depth + 1} levels, "
            f"got {order.crop}; {nearest} would do"
        )
    if order.batch_size * (order.crop // network.grid) ** 2 < 2:
        raise Rejected("batch normalisation needs more than one value at the deepest level: raise crop or batch_size")
    size = 4 * sum(parameter.numel() for parameter in network.parameters())
    if size > _LARGEST_MODEL:
        raise Rejected(f"the network holds {size / 1e9:.1f} GB of weights, an ONNX file at most 2 GB: lower the widths")


def finite(loss: float, *, epoch: int, step: int, rate: float) -> float:
    """The loss itself. Raises Rejected if it is no number any more: no later step can mend the weights."""
    if math.isfinite(loss):
        return loss
    raise Rejected(
        f"the loss became {loss} in epoch {epoch}, step {step}: the training diverged; "
        f"lower learning_rate, {rate:g} now, to {rate / 10:g}"
    )


class _Progress:
    """Tells the listener how far the training is, not more often than anybody could read."""

    def __init__(self, note: Callable[[dict[str, Any]], None], *, epochs: int, steps: int) -> None:
        self._note, self._whole = note, {"epochs": epochs, "steps": steps}
        self._figures: dict[str, Any] = {}
        self._told = -math.inf

    def tell_step(self, epoch: int, step: int) -> None:
        """`epoch` and `step` count from 1; the figures are those of the epoch before."""
        if time.monotonic() - self._told < _SECONDS_BETWEEN_NOTES:
            return
        self._told = time.monotonic()
        self._note({**self._whole, **self._figures, "epoch": epoch, "step": step})

    def tell_epoch(self, epoch: Epoch, best: Epoch) -> None:
        self._figures = {**asdict(epoch), "best_epoch": best.epoch, "best_dice": best.validation_dice}
        self._note({**self._whole, **self._figures, "step": self._whole["steps"]})
