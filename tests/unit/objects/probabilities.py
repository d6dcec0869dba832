"""Probabilities to find objects in, and the ways to find them: at once, and block by block."""

import cv2
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.imaging.objects.blocks import BlockLabels, label_block
from shared.imaging.objects.joining import WHOLE, join
from shared.imaging.objects.rules import ObjectRules
from shared.imaging.objects.seams import Seams
from shared.imaging.tiling import Box, Pixels, plan_blocks

Labels = NDArray[np.uint32]


@st.composite
def probability_planes(draw: st.DrawFn, *, longest: int = 48) -> Pixels:
    """1 … 3 planes of at most `longest`² px: noise, blobs of any size, plateaus, all foreground, or thick snakes."""
    height, width = draw(st.integers(1, longest)), draw(st.integers(1, longest))
    count = draw(st.sampled_from([1, 1, 2, 3]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = generator.random((count, height, width), dtype=np.float32)
    size = draw(st.sampled_from([0, 1, 2, 4]))
    values = np.stack([cv2.GaussianBlur(plane, (0, 0), size) for plane in noise]) if size else noise
    values = (values - values.min()) / max(float(np.ptp(values)), 1e-6)
    kind = draw(st.sampled_from(["as they are", "as they are", "steps", "snakes", "full"]))
    if kind == "steps":
        values = np.round(values * 3) / 3
    elif kind == "snakes":
        values = np.abs(values - 0.5) < draw(st.sampled_from([0.05, 0.15]))
    elif kind == "full":
        values = values > 0.02
    return np.asarray(values * 255, dtype=np.uint8)


@st.composite
def object_rules(draw: st.DrawFn, *, classes: int) -> ObjectRules:
    """Any rules that make sense for so many planes, with short reaches."""
    return ObjectRules(
        threshold=draw(st.sampled_from([0.3, 0.5, 0.6])),
        method=draw(st.sampled_from(["watershed", "watershed", "watershed", "components"])),
        seed_threshold=draw(st.sampled_from([None, None, 0.4, 0.7])),
        border_class=draw(st.sampled_from([None, 1, 2])) if classes > 2 else None,
        median=draw(st.sampled_from([0, 0, 1, 2])),
        closing=draw(st.sampled_from([0, 0, 1, 2])),
        fill_holes=draw(st.sampled_from([0, 0, 3, 12])),
        farthest=draw(st.sampled_from([2, 4, 8])),
        smoothing=draw(st.sampled_from([0.0, 0.5, 1.0, 1.5])),
        depth=draw(st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0, 3.0])),
        relative_depth=draw(st.sampled_from([0.0, 0.06, 0.3])),
    )


def label_each(planes: Pixels, rules: ObjectRules, side: int) -> list[tuple[Box, BlockLabels]]:
    """The blocks of the image, none of which sees more than it has to."""
    _, height, width = planes.shape
    return [
        (box, label_block(lambda seen: planes[:, *seen.slices()].copy(), box, height=height, width=width, rules=rules))
        for box in plan_blocks(height, width, side=side)
    ]


def label_in_blocks(planes: Pixels, rules: ObjectRules, side: int) -> Labels:
    """Objects (H, W) of an image that is labelled block by block and joined by what the blocks pass on as arrays."""
    blocks = label_each(planes, rules, side)
    joined = join([Seams.from_arrays(block.seams.to_arrays()) for _, block in blocks], rules)
    labels = np.zeros(planes.shape[1:], dtype=np.uint32)
    count = joined.groups
    for index, (box, block) in enumerate(blocks):
        groups = joined.find_groups(index).astype(np.int64)
        whole = np.flatnonzero(groups[1:] == WHOLE) + 1
        numbers = np.maximum(groups + 1, 0)
        numbers[whole] = count + 1 + np.arange(whole.size)
        numbers[0] = 0
        labels[box.slices()] = numbers[block.labels]
        count += whole.size
    return labels
