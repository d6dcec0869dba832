"""Where the pixels of a crop come from: one smooth map from affine and elastic changes, applied at once.

Resampled once, an image blurs once, and its mask cannot come to lie elsewhere than the image.
"""

import math

import torch
from kornia.filters import gaussian_blur2d, get_gaussian_kernel1d
from kornia.geometry.transform import get_affine_matrix2d, remap
from torch import Tensor
from torch.nn import functional

from shared.schemas.training import AugmentationIn

_NODES_PER_SIGMA = 3  # elastic displacements are this much smoother than the grid that they are drawn on


class Warp:
    """Random maps of the ordered size."""

    def __init__(self, order: AugmentationIn) -> None:
        self._order = order

    @staticmethod
    def is_ordered(order: AugmentationIn) -> bool:
        """Whether there is anything to do but the identity."""
        return any((order.scale, order.translate, order.rotate, order.shear, order.elastic))

    def draw(self, crops: int, height: int, width: int, *, device: torch.device) -> Tensor:
        """Where each pixel comes from: (crops, 2, height, width), columns and rows, px; some lie outside the crop."""
        columns = torch.arange(width, dtype=torch.float32, device=device)
        rows = torch.arange(height, dtype=torch.float32, device=device)[:, None]
        across, down, offset = self._draw_affine(crops, height, width).to(device)[..., None, None].unbind(2)
        places = across * columns + down * rows + offset
        if self._order.elastic:
            shifts = draw_smooth(crops, height, width, sigma=self._order.elastic_sigma, device=device)
            places = places + self._order.elastic * shifts
        return places

    def _draw_affine(self, crops: int, height: int, width: int) -> Tensor:
        """From pixels of the result to those of the source, (crops, 2, 3), about the centre of the crop."""
        order = self._order
        forward = get_affine_matrix2d(
            translations=order.translate * _draw(crops, 2),
            center=torch.tensor([[(width - 1) / 2, (height - 1) / 2]]).repeat(crops, 1),
            scale=(1 + order.scale * _draw(crops, 1)).repeat(1, 2),
            angle=order.rotate * _draw(crops),
            sx=math.radians(order.shear) * _draw(crops),
            sy=math.radians(order.shear) * _draw(crops),
        )
        inverse: Tensor = torch.linalg.inv(forward)[:, :2]
        return inverse


def draw_smooth(crops: int, height: int, width: int, *, sigma: float, device: torch.device) -> Tensor:
    """Random displacements (crops, 2, height, width), normally distributed with mean 0 and deviation 1.

    White noise, smoothed by a Gaussian of `sigma` px (Simard et al. 2003, section 2) and scaled back to deviation 1.
    It is drawn on a coarser grid, a third of sigma wide, and interpolated between its nodes by cubic convolution.
    """
    nodes = [_count_nodes(size, sigma) for size in (height, width)]
    sigmas = [sigma * (count - 1) / (size - 1) for count, size in zip(nodes, (height, width), strict=True)]
    reach = [math.ceil(3 * each) for each in sigmas]
    noise = torch.randn(crops, 2, nodes[0] + 2 * reach[0], nodes[1] + 2 * reach[1]).to(device)
    kernel = (2 * reach[0] + 1, 2 * reach[1] + 1)
    smooth = gaussian_blur2d(noise, kernel, (sigmas[0], sigmas[1]), border_type="constant")
    smooth = smooth[:, :, reach[0] : -reach[0], reach[1] : -reach[1]]
    deviation = math.prod(
        float(get_gaussian_kernel1d(size, each).norm()) for size, each in zip(kernel, sigmas, strict=True)
    )
    smooth = smooth / deviation
    return functional.interpolate(smooth, size=(height, width), mode="bicubic", align_corners=True)


def sample_at(crops: Tensor, places: Tensor, *, mode: str) -> Tensor:
    """The values of crops (N, C, H, W) at places (N, 2, H, W), mirrored outside, in the crops' number type.

    `mode`: bilinear, or nearest, which makes no new values.
    """
    values: Tensor = remap(
        crops.float(), places[:, 0], places[:, 1], mode=mode, padding_mode="reflection", align_corners=True
    )
    return values.to(crops.dtype)


def _count_nodes(size: int, sigma: float) -> int:
    """Nodes of the coarse grid along a side of `size` px: no more than pixels, at least two."""
    return max(2, min(size, math.ceil((size - 1) * _NODES_PER_SIGMA / sigma) + 1))


def _draw(*shape: int) -> Tensor:
    """Even random numbers of −1 … 1."""
    return 2 * torch.rand(*shape) - 1
