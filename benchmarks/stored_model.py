"""A model from a folder, predicting as the platform does: the same tiling, the same preparation, the same engine."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from services.trainer.devices import choose_precision
from shared.imaging.masks import close_mask, find_classes
from shared.imaging.normalisation import to_channels
from shared.imaging.objects.rules import ObjectRules
from shared.imaging.objects.whole import label_whole
from shared.imaging.preparation import prepare
from shared.imaging.tiling import Box, Pixels, choose_core, mirror_read, plan_tiles
from shared.imaging.warping import average_overview, read_warped
from shared.schemas.contracts import TilingContract
from shared.schemas.objects import ObjectParameters
from shared.slides import open_slide


@dataclass(frozen=True, eq=False)
class Prediction:
    """What is found in an image."""

    foreground: NDArray[np.bool_]  # (H, W)
    objects: NDArray[np.uint32]  # (H, W), 0 = background


class StoredModel:
    """What an export wrote into `folder`."""

    def __init__(self, folder: Path) -> None:
        self._contract = TilingContract.model_validate_json((folder / "contract.json").read_bytes())
        self._card: dict[str, Any] = json.loads((folder / "card.json").read_bytes())
        self._segmenter = _Engine(folder / "model.onnx")
        self._localiser = _Engine(folder / "localiser.onnx") if self._contract.warp else None

    def describe(self) -> dict[str, Any]:
        """What a reader of the scores should know."""
        order = self._card.get("order", {})
        return {
            "threshold": self._contract.threshold,
            "closing": self._contract.closing,
            "network": order.get("network"),
            "trained": {name: self._card.get(name) for name in ("recipe", "images", "seconds", "hardware", "code")},
        }

    def predict(self, images: Sequence[tuple[str, Path]]) -> Iterator[Prediction]:
        """What is found in each image, by the recommended threshold, closing and rules for objects."""
        contract = self._contract
        asked = ObjectParameters.fill(contract.objects, classes=contract.classes, closing=contract.closing)
        rules = ObjectRules(threshold=contract.threshold, **asked.model_dump())
        for name, path in images:
            with open_slide(path, name=name) as slide:
                planes = self.predict_planes(slide.read(Box(0, 0, slide.height, slide.width)))
            classes = close_mask(find_classes(planes, threshold=contract.threshold), contract.closing)
            yield Prediction(self._find_foreground(classes > 0), label_whole(planes, rules))

    def predict_planes(self, rgb: Pixels) -> Pixels:
        """Probabilities (planes, H, W) of an image (H, W, 3)."""
        contract, (height, width) = self._contract, rgb.shape[:2]
        enriched = self._enrich(prepare(to_channels(rgb, contract.channels), contract))
        core = choose_core(height, width, cores=contract.cores[:-1] or contract.cores, halo=contract.halo)
        planes = np.empty((contract.planes, height, width), np.uint8)
        for tile in plan_tiles(Box(0, 0, height, width), core=core, halo=contract.halo):
            pixels = mirror_read(lambda box: enriched[box.slices()], tile.read, height=height, width=width)
            answer = self._segmenter.run(pixels[None])[0]
            planes[:, *tile.write.slices()] = answer[:, : tile.write.height, : tile.write.width]
        return planes

    def _enrich(self, image: Pixels) -> Pixels:
        """The image, and beside it the warped image, if the network takes one."""
        warp = self._contract.warp
        if warp is None or self._localiser is None:
            return image
        height, width = image.shape[:2]
        theta = self._localiser.run(average_overview(image, warp.overview)[None])[0]
        box = Box(0, 0, height, width)
        warped = read_warped(lambda inside: image[inside.slices()], theta, box, height=height, width=width)
        return np.concatenate([image, warped], axis=2)

    def _find_foreground(self, found: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """As in the masks: a model that learnt to find the pixels of value 0 finds the background."""
        masks = self._card.get("order", {}).get("masks", {})
        return ~found if masks.get("foreground") == "zero" else found


class _Engine:
    """A graph in OpenVINO, compiled for each shape that it meets."""

    def __init__(self, graph: Path) -> None:
        self._core = ov.Core()
        self._graph = self._core.read_model(graph)
        self._compiled: dict[tuple[int, ...], Any] = {}
        self._precision = "bf16" if choose_precision() == "bf16-mixed" and graph.name == "model.onnx" else "f32"

    def run(self, value: NDArray[Any]) -> NDArray[Any]:
        """The graph's first output."""
        if value.shape not in self._compiled:
            model = self._graph.clone()
            model.reshape(value.shape)
            options = {"INFERENCE_PRECISION_HINT": self._precision}
            self._compiled[value.shape] = self._core.compile_model(model, "CPU", options)
        answer: NDArray[Any] = self._compiled[value.shape]([np.ascontiguousarray(value)])[0]
        return answer
