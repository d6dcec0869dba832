"""How wrong an answer is, as one number to make small."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from services.trainer.data import Sample
from shared.schemas.training import LossIn


@dataclass(frozen=True)
class Loss:
    """The weighted sum of a cross-entropy and 1 − Dice. Made for samples: their classes may be rare."""

    cross_entropy: float  # weight
    dice: float  # weight
    class_weights: Tensor | None  # (K,), of the cross-entropy; none: all are 1

    def __call__(self, heads: Sequence[Tensor], masks: Tensor, borders: Tensor | None = None) -> Tensor:
        """The mean over the heads: a scalar, 0 or more.

        Every head: logits (N, planes, H, W). `masks`: class indices (N, H, W). `borders`: (N, H, W), added to the class
        weights.
        """
        weights = self._weigh(masks, borders)
        return torch.stack([self._of(logits.float(), masks, weights) for logits in heads]).mean()

    def _of(self, logits: Tensor, masks: Tensor, weights: Tensor | None) -> Tensor:
        loss = logits.new_zeros(())
        if self.cross_entropy:
            loss = loss + self.cross_entropy * pixel_loss(logits, masks, weights)
        if self.dice:
            loss = loss + self.dice * dice_loss(logits, masks)
        return loss

    def _weigh(self, masks: Tensor, borders: Tensor | None) -> Tensor | None:
        """w(x) of each pixel (N, H, W), Ronneberger et al. 2015, equation 2; None if all are 1."""
        if self.class_weights is None:
            return None if borders is None else 1 + borders.float()
        weights = self.class_weights.to(masks.device)[masks.long()]
        return weights if borders is None else weights + borders.float()


def make_loss(order: LossIn, *, classes: int, samples: Sequence[Sample]) -> Loss:
    """The ordered loss for a network of `classes`; class frequencies are those of all pixels of the samples."""
    weighted = order.class_weights == "frequency"
    return Loss(order.cross_entropy, order.dice, weigh_classes(samples, max(classes, 2)) if weighted else None)


def weigh_classes(samples: Sequence[Sample], classes: int) -> Tensor:
    """A weight (classes,) for each class: pixels / (classes that occur · pixels of the class).

    Every class that occurs then counts the same, and the mean weight over all pixels is 1. What does not occur has 1.
    """
    counts = np.zeros(classes, np.int64)
    for sample in samples:
        counts += np.bincount(sample.mask.ravel(), minlength=classes)
    occurs = counts > 0
    weights = np.ones(classes, np.float32)
    weights[occurs] = counts.sum() / (np.count_nonzero(occurs) * counts[occurs])
    return torch.from_numpy(weights)


def pixel_loss(logits: Tensor, masks: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy per pixel, of logits (N, planes, H, W) and class indices (N, H, W): a scalar, 0 or more.

    One plane: binary cross-entropy with the logits. More: softmax cross-entropy. `weights` (N, H, W) multiply that of
    each pixel; the sum is still divided by the number of pixels, not by the weights.
    """
    logits = logits.float()  # bf16 has too few digits for a mean over many pixels
    if logits.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(logits[:, 0], masks.float(), weight=weights)
    surprise = cross_entropies(logits, masks)
    return surprise.mean() if weights is None else (surprise * weights).mean()


def cross_entropies(logits: Tensor, masks: Tensor) -> Tensor:
    """−log of the softmax probability of each pixel's class, (N, H, W).

    In deterministic mode as a sum over classes: torch's own has no deterministic form on graphics cards.
    """
    if not torch.are_deterministic_algorithms_enabled():
        return functional.cross_entropy(logits, masks.long(), reduction="none")
    truth = torch.stack([masks == number for number in range(logits.shape[1])], dim=1)
    return -(functional.log_softmax(logits, dim=1) * truth).sum(dim=1)


def dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """1 − soft Dice over all pixels of the batch, the mean over the classes other than background: 0 … 1.

    2 Σ p g / (Σ p² + Σ g²) of probabilities p and truth g (Milletari et al. 2016, section 3), with one pixel more above
    and below the line: where a class is absent, finding nothing is right and finding something is wrong.
    """
    logits = logits.float()
    if logits.shape[1] == 1:
        found, truth = torch.sigmoid(logits), (masks > 0).float()[:, None]
    else:
        found = torch.softmax(logits, dim=1)[:, 1:]
        truth = torch.stack([masks == number for number in range(1, logits.shape[1])], dim=1).float()
    over = (0, 2, 3)
    hits, sizes = (found * truth).sum(over), (found**2).sum(over) + (truth**2).sum(over)
    return 1 - ((2 * hits + 1) / (sizes + 1)).mean()
