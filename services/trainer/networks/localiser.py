"""The localisation network of a spatial transformer (Jaderberg et al. 2015, section 3.1)."""

from typing import Literal

import torch
from torch import Tensor, nn

Transform = Literal["projective", "affine"]

_HIDDEN = 50  # values of the dense layer
_POOLED = 8  # px a side that a size-free localiser averages its features to


class Localiser(nn.Module):
    """From an overview of an image to the transform that brings what is seen there into place.

    Convolution 3×3×8, ReLU, pooling 2, convolution 3×3×10, ReLU, pooling 2 (all without padding), a dense layer of 50
    with ReLU, a dense layer of 8 (projective) or 6 (affine). As published, the first dense layer sees every pixel, so
    its weights belong to one overview; `size_free` averages the features to 8 × 8 first.

    The last layer starts with weights of zero and the biases of the identity, as Jaderberg et al. advise, so that an
    untaught localiser leaves the image as it is. The published code starts at all zeros: every point is read from
    the same place, the warped image is constant and says nothing.
    """

    def __init__(self, channels: int, *, overview: int, transform: Transform, size_free: bool) -> None:
        """`overview` is the side of what it looks at, px."""
        super().__init__()
        self.overview = overview
        self.transform = transform
        side = ((overview - 2) // 2 - 2) // 2  # after two valid convolutions and two poolings
        pooled = _POOLED if size_free else side
        self.features = nn.Sequential(
            nn.Conv2d(channels, 8, kernel_size=3),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=2),
            nn.Conv2d(8, 10, kernel_size=3),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=2),
        )
        self.pool = nn.AdaptiveAvgPool2d(pooled) if size_free else nn.Identity()
        self.hidden = nn.Linear(10 * pooled * pooled, _HIDDEN)
        identity = [1.0, 0, 0, 0, 1, 0, 0, 0] if transform == "projective" else [1.0, 0, 0, 0, 1, 0]
        self.last = nn.Linear(_HIDDEN, len(identity))
        with torch.no_grad():
            self.last.weight.zero_()
            self.last.bias.copy_(torch.tensor(identity))

    def forward(self, overview: Tensor) -> Tensor:
        """(N, channels, overview, overview) of 0 … 1 to transforms (N, 3, 3), see `warp`."""
        features = self.pool(self.features(overview)).flatten(1)  # (N, 10 · pooled²)
        values = self.last(torch.relu(self.hidden(features)))  # (N, 8) or (N, 6)
        rest = values.new_tensor([1.0] if self.transform == "projective" else [0.0, 0, 1])
        return torch.cat([values, rest.expand(len(values), -1)], dim=1).reshape(-1, 3, 3)  # row by row
