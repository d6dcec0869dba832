"""Where a model was wrong, to look at: input, truth, prediction and error side by side."""

import cv2
import numpy as np
from numpy.typing import NDArray

from services.worker.writers.overlay import brighten, outline_objects
from shared.imaging.metrics.accumulating import AnswerBlock, TruthBlock
from shared.imaging.metrics.pixels import Labels, Mask
from shared.imaging.tiling import Box, Pixels

CELL = 256  # px, the longer side of each of the four pictures
GAP = 4  # px of white between them
WINDOW = 512  # px, the side of the part of a large image that is shown
LARGEST_FACTOR = 8  # by which small images are enlarged

# Told apart in every kind of colour blindness, and by brightness alone (Okabe and Ito 2008).
HIT, MISSED, FALSE = (225, 225, 225), (230, 159, 0), (0, 114, 178)
QUALITY = 85  # of a JPEG
FADED = 0.25  # of the image's brightness under the errors


class WorstWindow:
    """Finds the part of an image with the most wrong pixels, from its blocks."""

    def __init__(self, height: int, width: int) -> None:
        self._size = height, width
        self._wrong = np.zeros((-(-height // WINDOW), -(-width // WINDOW)), np.int64)

    def add(self, box: Box, wrong: Mask) -> None:
        """Count the wrong pixels (h, w) of a block."""
        for row in range(box.top // WINDOW, -(-box.bottom // WINDOW)):
            for column in range(box.left // WINDOW, -(-box.right // WINDOW)):
                common = self._window(row, column).intersect(box).move(-box.top, -box.left)
                self._wrong[row, column] += np.count_nonzero(wrong[common.slices()])

    def find(self) -> Box:
        """The window, 512 × 512 px, or as much of it as the image has; of equals the first."""
        height, width = self._size
        row, column = divmod(int(self._wrong.argmax()), self._wrong.shape[1])
        top, left = min(row * WINDOW, max(height - WINDOW, 0)), min(column * WINDOW, max(width - WINDOW, 0))
        return Box(top, left, min(top + WINDOW, height), min(left + WINDOW, width))

    def _window(self, row: int, column: int) -> Box:
        height, width = self._size
        top, left = row * WINDOW, column * WINDOW
        return Box(top, left, min(top + WINDOW, height), min(left + WINDOW, width))


def draw_panel(pixels: Pixels, truth: TruthBlock, answer: AnswerBlock) -> bytes:
    """A PNG of four pictures in a row: the image (h, w, 3), true outlines, found outlines, and what is wrong.

    Dim images are brightened. In the last, hits are light, missed pixels orange, false alarms blue, over the faded
    image.
    """
    picture = brighten(_fit(pixels, cv2.INTER_AREA))
    foreground, found = truth.foreground, answer.classes != 0
    wrong = np.where(foreground, np.where(found, 1, 2), np.where(found, 3, 0)).astype(np.uint8)
    true_objects = truth.labels if truth.labels is not None else truth.classes
    found_objects = answer.labels if answer.labels is not None else answer.classes
    cells = [
        picture,
        _draw_outlines(picture, true_objects),
        _draw_outlines(picture, found_objects),
        _draw_errors(picture, _fit(wrong, cv2.INTER_NEAREST)),
    ]
    gap = np.full((picture.shape[0], GAP, 3), 255, np.uint8)
    row = np.concatenate([part for cell in cells for part in (cell, gap)][:-1], axis=1)
    done, body = cv2.imencode(".png", np.ascontiguousarray(row[..., ::-1]))
    if not done:
        raise ValueError(f"no PNG could be made of {row.shape}")
    return bytes(body)


def compress_panel(body: bytes) -> bytes:
    """The picture as a JPEG without losses of colour detail, a quarter of the size or less.

    Raises:
        ValueError: it is no picture.
    """
    picture = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("no picture")
    how = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, smaller = cv2.imencode(".jpg", picture, how)
    if not done:
        raise ValueError(f"no JPEG could be made of {picture.shape}")
    return bytes(smaller)


def _fit(image: NDArray[np.uint8], interpolation: int) -> NDArray[np.uint8]:
    """An image (h, w) or (h, w, 3) in the size of a cell: small ones are enlarged by a whole factor."""
    height, width = image.shape[:2]
    rows, columns = _fitted(height, width)
    if max(rows, columns) >= max(height, width):
        factor = rows // height
        enlarged: NDArray[np.uint8] = image.repeat(factor, axis=0).repeat(factor, axis=1)
        return enlarged
    return np.asarray(cv2.resize(np.ascontiguousarray(image), (columns, rows), interpolation=interpolation), np.uint8)


def _fitted(height: int, width: int) -> tuple[int, int]:
    longest = max(height, width)
    factor = min(CELL // longest, LARGEST_FACTOR)
    if factor >= 1:
        return height * factor, width * factor
    return max(round(height * CELL / longest), 1), max(round(width * CELL / longest), 1)


def _draw_outlines(picture: Pixels, labels: Labels | Pixels | None) -> Pixels:
    """The picture (h, w, 3) with an outline, one of its pixels wide, around each object of labels of any size."""
    if labels is None:
        return picture
    rows, columns = picture.shape[:2]
    height, width = labels.shape
    at = (np.arange(rows) * height // rows)[:, None], (np.arange(columns) * width // columns)[None]
    return outline_objects(picture, labels[at].astype(np.int64))


def _draw_errors(picture: Pixels, wrong: Pixels) -> Pixels:
    faded = picture.mean(axis=2, keepdims=True).repeat(3, axis=2) * FADED
    drawn: Pixels = np.rint(faded).astype(np.uint8)
    for number, colour in enumerate((HIT, MISSED, FALSE), 1):
        drawn[wrong == number] = colour
    return drawn
