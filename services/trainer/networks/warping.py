"""The sampler of a spatial transformer (Jaderberg et al. 2015, section 3.3)."""

import torch
from torch import Tensor
from torch.nn import functional

LEAST_DEPTH = 1e-3  # what a projective transform divides by; points behind the picture plane are read at its border


def warp(image: Tensor, transforms: Tensor) -> Tensor:
    """Images (N, C, H, W), warped by transforms (N, 3, 3): the same size, differentiable by both.

    The warped pixel at (x, y) is read from the image at (u/w, v/w) with (u, v, w) = transform · (x, y, 1) and w at
    least `LEAST_DEPTH`, bilinearly, from the nearest border pixel where that lies outside. Coordinates run from −1 to
    1 between the outer edges of the image: x = (2 · column + 1) / W − 1 at a pixel's middle.
    """
    height, width = image.shape[-2:]
    x = _middles(width, transforms)[None, None, None, :]
    y = _middles(height, transforms)[None, None, :, None]
    across, down, shift = transforms[..., None, None].unbind(dim=2)  # (N, 3, 1, 1) each
    placed = across * x + down * y + shift  # (N, 3, H, W): u, v, w
    source = placed[:, :2] / placed[:, 2:].clamp(min=LEAST_DEPTH)
    return functional.grid_sample(
        image, source.permute(0, 2, 3, 1), mode="bilinear", padding_mode="border", align_corners=False
    )


def _middles(side: int, like: Tensor) -> Tensor:
    """Coordinates of `side` pixels' middles."""
    return (2 * torch.arange(side, dtype=like.dtype, device=like.device) + 1) / side - 1
