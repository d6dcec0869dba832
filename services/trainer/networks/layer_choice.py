"""The choices that make one UNet of many."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LayerChoice:
    """What the levels of a UNet are made of."""

    padding: Literal["same", "valid"] = "same"  # valid: convolutions see real pixels only, and shrink the picture
    batch_norm: bool = True  # after each 3×3 convolution (Ioffe and Szegedy 2015)
    decoder: Literal["transposed", "upsampling"] = "transposed"  # how the way up doubles the resolution
    dropout: float = 0.0  # share of the features silenced between two convolutions while training
