"""The optimiser, and the learning rate at every step: a pure function, so that a resumed training needs no memory."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from services.trainer.history import Epoch
from shared.schemas.training import TrainIn

PLATEAU_FACTOR = 1 / 3


def make_optimiser(order: TrainIn, network: nn.Module) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba 2015), AdamW (Loshchilov and Hutter 2019) or SGD over the weights that may change."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    if order.optimiser == "sgd":
        return torch.optim.SGD(
            weights, lr=order.learning_rate, momentum=order.momentum, weight_decay=order.weight_decay
        )
    kind = torch.optim.AdamW if order.optimiser == "adamw" else torch.optim.Adam
    return kind(weights, lr=order.learning_rate, weight_decay=order.weight_decay)


def learning_rate(order: TrainIn, history: Sequence[Epoch], *, done: float) -> float:
    """The rate of the next step, when the share `done` (0 … 1) of all planned steps lies behind.

    cosine: falls to 0 along half a cosine (Loshchilov and Hutter 2017, without restarts). plateau: to a third each
    time the validation loss has not fallen for `plateau_patience` epochs.
    """
    if order.schedule == "cosine":
        return order.learning_rate * (1 + math.cos(math.pi * done)) / 2
    if order.schedule == "plateau":
        return order.learning_rate * PLATEAU_FACTOR ** count_plateaus(history, patience=order.plateau_patience)
    return order.learning_rate


def count_plateaus(history: Sequence[Epoch], *, patience: int) -> int:
    """How often the validation loss rested for `patience` epochs; each count begins after the one before."""
    plateaus, resting, least = 0, 0, math.inf
    for epoch in history:
        if epoch.validation_loss < least:
            least, resting = epoch.validation_loss, 0
            continue
        resting += 1
        if resting == patience:
            plateaus, resting = plateaus + 1, 0
    return plateaus


def find_best(history: Sequence[Epoch]) -> Epoch:
    """The epoch with the best validation Dice; of equals, the one with the lowest validation loss."""
    return max(history, key=lambda epoch: (epoch.validation_dice, -epoch.validation_loss))


def is_exhausted(order: TrainIn, history: Sequence[Epoch]) -> bool:
    """Whether `patience` epochs have passed without a better one."""
    if order.patience is None or not history:
        return False
    return history[-1].epoch - find_best(history).epoch >= order.patience
