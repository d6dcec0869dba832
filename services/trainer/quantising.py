"""Whether a trained network may be served in int8: tried on the images of its training."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
import onnxruntime
import torch

from services.trainer.data import Sample
from services.trainer.networks import Network
from services.trainer.networks.inputs import as_input
from services.trainer.serving.quantisation import quantise
from services.trainer.validation import overlap
from shared.imaging.masks import close_mask, find_classes
from shared.imaging.metrics.pixels import count_classes
from shared.imaging.probes import known_question
from shared.imaging.tiling import Box, Pixels, plan_tiles, read_mirrored
from shared.schemas.contracts import KnownAnswer

LOSS_ALLOWED = 0.002  # of the mean Dice
TILES = 64  # at most, whose activations set the ranges
CORE = 256  # px, of these tiles
LARGEST = 512  # px, of the cores that are scored

Predict = Callable[[Pixels], Pixels]  # a tile (H, W, tile_channels) → its answer (planes, H − 2 halo, W − 2 halo)


@dataclass(frozen=True)
class Trial:
    """A graph in int8, and how it does beside the one in fp32."""

    graph: bytes  # ONNX
    dice_fp32: float  # 0 … 1, mean over the held-out images
    dice_int8: float
    off_known_answer: float  # mean difference, steps of 1/255
    tolerance: float  # what the contract allows of that

    @property
    def taken(self) -> bool:
        """Whether it is good enough to be served. Not if a Dice is no number, either.

        To the known answer it keeps a step of 1/255 in hand, for engines round a little differently.
        """
        is_as_good = self.dice_fp32 - self.dice_int8 <= LOSS_ALLOWED
        return is_as_good and self.off_known_answer <= self.tolerance - 1

    def summarise(self) -> dict[str, Any]:
        """For the model's card."""
        return {
            "dice_fp32": round(self.dice_fp32, 5),
            "dice_int8": round(self.dice_int8, 5),
            "off_known_answer": round(self.off_known_answer, 3),
            "taken": self.taken,
        }


@dataclass(frozen=True)
class Quantiser:
    """Makes int8 graphs of exported ones, and judges them as the model will be used."""

    training: Sequence[Sample]  # set the ranges of the activations
    held: Sequence[Sample]  # are scored
    threshold: float  # of the probability, 0 … 1
    closing: int  # px
    seed: int  # of the tiles that are drawn
    check: Callable[[], None]  # called before each tile; may raise to stop

    def try_out(self, graph: bytes, network: Network, known: KnownAnswer) -> Trial:
        """The graph in int8 with its figures.

        ONNX Runtime computes both, rounding to int8 but calculating in fp32, so that the figures are the same on
        processors that cannot do better.

        Args:
            graph: ONNX, of the network.
            network: on the CPU, in evaluation mode.
            known: what the network answers to the known question.
        """
        quantised = quantise(graph, self._draw_tiles(network))
        reference, candidate = (_as_predictor(each) for each in (graph, quantised))
        return Trial(
            graph=quantised,
            dice_fp32=self._score(reference, network),
            dice_int8=self._score(candidate, network),
            off_known_answer=_measure_off(candidate, network, known),
            tolerance=known.tolerance,
        )

    def _draw_tiles(self, network: Network) -> Iterator[Pixels]:
        """Tiles of the training images (H, W, tile_channels), as many as it takes to cover them, 64 at most."""
        generator = np.random.default_rng(self.seed)
        order = generator.permutation(len(self.training))
        areas = (-(-side // CORE) for sample in self.training for side in sample.mask.shape)
        number = sum(rows * columns for rows, columns in zip(areas, areas, strict=True))
        for index in islice(cycle(order), min(number, TILES)):
            self.check()
            image = _enrich(network, self.training[index].image)
            top, left = (_draw_place(side, network.grid, generator) for side in image.shape[:2])
            yield read_mirrored(image, Box(top, left, top + CORE, left + CORE).grow(network.halo))

    def _score(self, predict: Predict, network: Network) -> float:
        """Mean over the held-out images of the Dice, itself a mean over the classes other than background."""
        classes = max(network.classes, 2)
        scores = []
        for sample in self.held:
            planes = self._predict_whole(predict, network, _enrich(network, sample.image))
            found = close_mask(find_classes(planes, threshold=self.threshold), self.closing)
            scores.append(overlap(count_classes(sample.mask, found, classes=classes))[0])
        return float(np.mean(scores))

    def _predict_whole(self, predict: Predict, network: Network, image: Pixels) -> Pixels:
        """Probabilities (planes, H, W) of an image (H, W, tile_channels), tile by tile."""
        height, width = image.shape[:2]
        planes = np.zeros((network.classes, height, width), np.uint8)
        core = min(LARGEST, -(-max(height, width) // network.grid) * network.grid)
        for tile in plan_tiles(Box(0, 0, height, width), core=core, halo=network.halo):
            self.check()
            answer = predict(read_mirrored(image, tile.read))
            planes[:, *tile.write.slices()] = answer[:, : tile.write.height, : tile.write.width]
        return planes


def _enrich(network: Network, image: Pixels) -> Pixels:
    """What tiles are cut from, in bytes: the image (H, W, channels) with what depends on it as a whole."""
    with torch.inference_mode():
        enriched = network.enrich(as_input(torch.from_numpy(image[None])))[0]
        pixels: Pixels = torch.round(enriched * 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return np.ascontiguousarray(pixels)


def _draw_place(side: int, grid: int, generator: np.random.Generator) -> int:
    """Where a core begins, px, on the grid; at 0 if the image is no larger."""
    return grid * int(generator.integers(max(side - CORE, 0) // grid + 1))


def _as_predictor(graph: bytes) -> Predict:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # without VNNI its int8 sums overflow
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def predict(tile: Pixels) -> Pixels:
        answer: Pixels = session.run(None, {"IMAGE": tile[None]})[0][0]
        return answer

    return predict


def _measure_off(predict: Predict, network: Network, known: KnownAnswer) -> float:
    """Mean difference from the known answer, in steps of 1/255."""
    answer = predict(known_question(known.side, network.tile_channels, known.seed))
    return float(np.abs(answer[:, :: known.step, :: known.step].astype(int) - np.asarray(known.answer)).mean())
