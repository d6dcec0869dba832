"""The peer: MONAI's sliding window, as its documentation shows it."""

import time

import torch
from monai.inferers.utils import sliding_window_inference

from services.trainer.networks import UNet
from services.trainer.networks.inputs import as_input
from shared.imaging.tiling import Pixels

WINDOW = 512  # px
OVERLAP = 0.25


def time_monai(network: UNet, picture: Pixels) -> float:
    """Seconds for a picture (H, W, 3) already in memory, to logits in memory, in torch fp32; the best of two."""
    image = as_input(torch.from_numpy(picture)[None])
    with torch.inference_mode():
        network.eval()(image[:, :, :WINDOW, :WINDOW])  # warm up
        return min(_time_once(network, image) for _ in range(2))


def _time_once(network: UNet, image: torch.Tensor) -> float:
    begun = time.perf_counter()
    sliding_window_inference(
        image, roi_size=WINDOW, sw_batch_size=1, predictor=network, overlap=OVERLAP, mode="gaussian"
    )
    return time.perf_counter() - begun
