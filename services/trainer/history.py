"""What a training has achieved so far."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images achieved. Dice and IoU: over pixels, mean of the foreground classes."""

    epoch: int  # from 1
    train_loss: float  # mean over the steps
    train_dice: float  # 0 … 1, on augmented crops, while the weights were still changing
    train_iou: float  # 0 … 1
    validation_loss: float
    validation_dice: float  # 0 … 1
    validation_iou: float  # 0 … 1
    learning_rate: float  # at the end of the epoch
    seconds: float
