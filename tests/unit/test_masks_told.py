"""What the numbers of a dataset's masks mean, told from some of them."""

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from services.worker.stages.arrange import tell_masks
from shared.annotations.kinds import interpret
from shared.layouts import Entry
from tests.mask_files import blobs

BINARY = (blobs(40) > 0).astype(np.uint8) * 255


class Masks:
    """Masks that were never in a file."""

    def __init__(self, masks: Mapping[str, NDArray[np.generic]]) -> None:
        self._masks = masks

    def values(self, name: str, page: int | None) -> NDArray[np.generic]:  # each has one page
        return self._masks[name]

    def entries(self) -> list[Entry]:
        return [Entry(name, name, masks=(name,)) for name in self._masks]


def test_a_smoothed_mask_among_binary_ones_has_no_vote() -> None:
    smoothed = gaussian_filter(BINARY.astype(np.float64), 1).astype(np.uint8)
    masks = Masks({**{f"{number:02d}": BINARY for number in range(15)}, "99": smoothed})
    assert tell_masks(masks.entries(), masks, "auto").kind == "binary"


@pytest.mark.parametrize("ordered", ["auto", "binary"])
def test_a_mask_without_objects_has_the_background_of_the_others(ordered: str) -> None:
    empty = np.ones((100, 100), np.uint8)
    masks = Masks({"a": empty, "b": (blobs(9) > 0).astype(np.uint8) + 1})
    told = tell_masks(masks.entries(), masks, "binary" if ordered == "binary" else "auto")
    entry = Entry.of_json(told.apply(masks.entries()[0], {}).as_json())
    annotation = interpret(empty, entry.mask_kind, "a", entry.background)
    assert annotation.classes is not None
    assert not annotation.classes.any()
    assert not annotation.as_stored


def test_a_mask_that_is_all_foreground_stays_so_where_background_is_zero() -> None:
    whole = np.full((100, 100), 255, np.uint8)
    masks = Masks({"a": whole, "b": BINARY})
    told = tell_masks(masks.entries(), masks, "auto")
    annotation = interpret(whole, told.kind, "a", told.background)
    assert annotation.classes is not None
    assert annotation.classes.all()


def test_what_is_ordered_needs_no_vote() -> None:
    masks = Masks({"a": BINARY})
    assert tell_masks(masks.entries(), masks, "classes").apply(masks.entries()[0], {}).mask_kind == "classes"
