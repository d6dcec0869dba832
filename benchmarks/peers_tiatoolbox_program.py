"""TIAToolbox's semantic segmentor on one slide. Runs in its own environment, see `peers_tiatoolbox.py`:

    python peers_tiatoolbox_program.py NETWORK.pt SLIDE.tiff PATCH STRIDE

NETWORK.pt is TorchScript: uint8 (N, PATCH, PATCH, 3) in, probabilities of background and foreground
(N, PATCH, PATCH, 2) out. The last line of stdout is one JSON object: the seconds from the slide on disk to the result
on disk, once, after a patch that warms up, and the versions.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

# PyPI's torchvision is built for CUDA and brings no operators to a torch that has none, but announces what two of them
# would do. None is used here; they only have to have a name.
OPERATORS = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    OPERATORS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from tiatoolbox.models.engine.io_config import IOSegmentorConfig  # noqa: E402
from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor  # noqa: E402
from tiatoolbox.models.models_abc import ModelABC  # noqa: E402

BATCH = 1  # patches; a patch of a large network keeps every core busy
BASELINE = [{"units": "baseline", "resolution": 1.0}]


class Scripted(ModelABC):
    """A TorchScript file as a model of TIAToolbox."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.network = torch.jit.load(path)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Probabilities (N, H, W, 2) of images (N, H, W, 3)."""
        answer: torch.Tensor = self.network(images)
        return answer

    @staticmethod
    def infer_batch(model: torch.nn.Module, batch_data: torch.Tensor, *, device: str) -> np.ndarray:
        """As TIAToolbox calls its own models."""
        with torch.inference_mode():
            answer: np.ndarray = model(batch_data.to(device).to(torch.uint8)).cpu().numpy()
            return answer


def main() -> None:
    """See the module."""
    network, slide, patch, stride = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    model = Scripted(network)
    model.infer_batch(model, torch.zeros((BATCH, patch, patch, 3)), device="cpu")
    config = IOSegmentorConfig(
        input_resolutions=BASELINE,
        output_resolutions=BASELINE,
        patch_input_shape=(patch, patch),
        patch_output_shape=(patch, patch),
        stride_shape=(stride, stride),
        save_resolution=BASELINE[0],
    )
    segmentor = SemanticSegmentor(model, batch_size=BATCH, num_workers=0, device="cpu", verbose=False)
    with TemporaryDirectory() as folder:
        begun = time.perf_counter()
        segmentor.run(
            [slide],
            patch_mode=False,
            ioconfig=config,
            auto_get_mask=False,
            return_probabilities=True,
            save_dir=Path(folder) / "result",
            output_type="zarr",
        )
        seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "versions": {name: version(name) for name in ("tiatoolbox", "torch")}}))


main()
