"""Changes to crops that leave their truth true, drawn anew for every crop of a batch.

All draws come from torch's global generator on the CPU, so that a seed gives the same crops on every device.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from services.trainer.warps import Warp, sample_at
from shared.schemas.training import AugmentationIn

Batch = tuple[Tensor, Tensor, Tensor | None]
_LEVELS = 256


class Augmenter:
    """The ordered changes. What the order leaves out is not even drawn, and costs nothing."""

    def __init__(self, order: AugmentationIn) -> None:
        self._order = order
        self._warp = Warp(order) if Warp.is_ordered(order) else None
        photometry: list[tuple[float, Callable[[Tensor, float], Tensor]]] = [
            (order.equalise, equalise_some),
            (order.contrast, scale_values),
            (order.colour, scale_colours),
            (order.brightness / 255, shift_values),
            (order.invert, invert_some),
        ]
        self._photometry = [(amount, change) for amount, change in photometry if amount]

    def __call__(self, images: Tensor, masks: Tensor, borders: Tensor | None) -> Batch:
        """Images (N, C, H, W) of 0 … 1, class indices (N, H, W) and border weights (N, H, W): the same, changed.

        Geometry is one for all three; only images change their values, which stay within 0 … 1. Images laid out
        channels last stay so.

        Raises:
            ValueError: turns are ordered, but crops are not square.
        """
        is_last = images.is_contiguous(memory_format=torch.channels_last)
        if self._order.turns or self._order.flips:
            images, masks, borders = turn_and_flip(images, masks, borders, order=self._order)
        if self._warp is not None:
            places = self._warp.draw(len(images), *masks.shape[1:], device=images.device)
            images = sample_at(images, places, mode="bilinear")
            masks = sample_at(masks[:, None], places, mode="nearest")[:, 0]
            borders = borders if borders is None else sample_at(borders[:, None], places, mode="bilinear")[:, 0]
        for amount, change in self._photometry:
            images = change(images, amount)
        layout = torch.channels_last if is_last else torch.contiguous_format
        return images.contiguous(memory_format=layout), masks, borders


def turn_and_flip(images: Tensor, masks: Tensor, borders: Tensor | None, *, order: AugmentationIn) -> Batch:
    """One of the symmetries of the square for each crop, pixel by pixel, without interpolation."""
    height, width = masks.shape[1:]
    if order.turns and height != width:
        raise ValueError(f"only square crops can be turned by 90°, these have {width} × {height} px")
    turns = torch.randint(4, (len(images),)).tolist() if order.turns else [0] * len(images)
    flips = torch.randint(2, (len(images),)).tolist() if order.flips else [0] * len(images)

    def move(crops: Tensor) -> Tensor:
        moved = torch.empty_like(crops)  # in the same memory layout
        for target, crop, turn, flip in zip(moved, crops, turns, flips, strict=True):
            turned = torch.rot90(crop, turn, (-2, -1)) if turn else crop
            target.copy_(turned.flip(-1) if flip else turned)
        return moved

    return move(images), move(masks), borders if borders is None else move(borders)


def scale_values(images: Tensor, amount: float) -> Tensor:
    """Each crop times a factor of 1 ± amount."""
    return (images * (1 + amount * _draw(len(images), 1, like=images))).clamp(0, 1)


def scale_colours(images: Tensor, amount: float) -> Tensor:
    """Each channel of each crop times its own factor of 1 ± amount."""
    return (images * (1 + amount * _draw(len(images), images.shape[1], like=images))).clamp(0, 1)


def shift_values(images: Tensor, amount: float) -> Tensor:
    """Each crop plus one number of ± amount."""
    return (images + amount * _draw(len(images), 1, like=images)).clamp(0, 1)


def invert_some(images: Tensor, share: float) -> Tensor:
    """A random share of the crops with bright and dark exchanged."""
    chosen = (torch.rand(len(images)) < share).to(images.device)
    return torch.where(chosen[:, None, None, None], 1 - images, images)


def equalise_some(images: Tensor, share: float) -> Tensor:
    """A random share of the crops with their histograms equalised."""
    chosen = (torch.rand(len(images)) < share).nonzero()[:, 0].to(images.device)
    if len(chosen) == 0:
        return images
    return images.index_copy(0, chosen, equalise(images[chosen]))


def equalise(images: Tensor) -> Tensor:
    """Images (N, C, H, W) of 0 … 1, each channel equalised in 256 steps, by the rule of `Levels.equalising`."""
    planes = images.shape[0] * images.shape[1]
    levels = (images * (_LEVELS - 1)).round().long().clamp(0, _LEVELS - 1).flatten(2).reshape(planes, -1)
    first = _LEVELS * torch.arange(planes, device=images.device)[:, None]
    histogram = torch.bincount((levels + first).flatten(), minlength=_LEVELS * planes).reshape(planes, _LEVELS)
    table = (histogram.cumsum(1).double() * ((_LEVELS - 1) / levels.shape[1])).round() / (_LEVELS - 1)
    constant = (histogram > 0).sum(1, keepdim=True) == 1
    as_before = torch.arange(_LEVELS, device=images.device) / (_LEVELS - 1)
    table = torch.where(constant, as_before, table).to(images.dtype)
    return table.gather(1, levels).reshape(images.shape)


def _draw(crops: int, channels: int, *, like: Tensor) -> Tensor:
    """Even random numbers of −1 … 1, (crops, channels, 1, 1)."""
    return (2 * torch.rand(crops, channels, 1, 1) - 1).to(like)
