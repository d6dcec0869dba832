"""What is said about a mask that does not fit, or looks wrong."""

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.annotations import Annotation, check_annotation
from shared.annotations.kinds import interpret
from shared.imaging.drawing import draw_nuclei
from shared.layouts import MaskKind
from tests.mask_files import blobs


def codes(values: NDArray[np.generic], kind: MaskKind = "auto") -> list[tuple[str, str]]:
    height, width = values.shape
    found = check_annotation(interpret(values, kind, "m.png"), height=height, width=width)
    assert all(problem.text.startswith("m.png: ") for problem in found)
    return [(problem.code, problem.severity) for problem in found]


@pytest.mark.parametrize("kind", ["auto", "instances", "binary", "classes"])
def test_a_sound_mask_has_no_findings(kind: MaskKind) -> None:
    assert codes(blobs(40), kind) == []
    _, drawn = draw_nuclei(160, 160, seed=3, stain="histology")
    assert codes(drawn) == codes(drawn > 0) == []


def test_a_mask_of_another_size_is_an_error_that_names_both() -> None:
    (problem,) = check_annotation(interpret(blobs(9), "auto", "m.png"), height=50, width=60)
    assert (problem.code, problem.severity) == ("mask_size", "error")
    assert "the mask has 100 × 100 px, but the image 60 × 50 px" in problem.text


def test_a_mask_that_marks_nothing_is_a_warning() -> None:
    assert codes(np.zeros((20, 20), np.uint8)) == [("mask_empty", "warning")]
    assert codes(np.zeros((20, 20), np.uint8), "instances") == [("mask_empty", "warning")]


@pytest.mark.parametrize("kind", ["auto", "binary", "instances"])
def test_a_picture_in_place_of_a_mask_is_an_error(kind: MaskKind) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    assert codes(picture, kind) == [("mask_not_labels", "error")]


def test_objects_exchanged_with_background_are_suspected() -> None:
    assert codes(blobs(60) == 0) == [("polarity_suspected", "warning")]


def test_much_foreground_with_one_network_of_background_is_not_suspected() -> None:
    cells = np.ones((100, 100), np.uint8)
    cells[::10], cells[:, ::10] = 0, 0  # membranes
    assert codes(cells) == []


def test_specks_are_suspected_to_be_no_objects() -> None:
    specks = np.zeros((40, 40), np.uint16)
    specks[::4, ::4] = np.arange(1, 101).reshape(10, 10)
    assert codes(specks, "instances") == [("objects_tiny", "warning")]


def test_one_number_for_pieces_far_apart_is_a_warning() -> None:
    values = blobs(40)
    values[values == 40] = 1
    assert codes(values, "instances") == [("objects_split", "warning")]


def test_pieces_that_lie_close_are_one_object() -> None:
    values = blobs(40)
    values[values == 2] = 1
    assert codes(values, "instances") == []


def test_a_class_without_a_name_is_an_error_that_tells_the_known_ones() -> None:
    known = Annotation(
        "classes", "m.png", classes=(blobs(9) % 4).astype(np.uint8), class_names={1: "tumour", 2: "stroma"}
    )
    (problem,) = check_annotation(known, height=100, width=100)
    assert (problem.code, problem.severity) == ("class_unknown", "error")
    assert "class 3 is not known (1 tumour, 2 stroma)" in problem.text


def test_one_number_for_thousands_of_pieces_is_a_warning_that_takes_no_memory() -> None:
    specks = (np.random.default_rng(0).random((512, 512)) < 0.02).astype(np.uint8)
    annotation = interpret(specks, "instances", "m.png")
    tracemalloc.start()
    problems = check_annotation(annotation, height=512, width=512)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "objects_split" in {problem.code for problem in problems}
    assert peak < 50e6


def test_an_object_that_covers_most_up_to_every_border_may_be_the_background() -> None:
    shifted = blobs(60).astype(np.uint16) + 1
    assert ("polarity_suspected", "warning") in codes(shifted, "instances")
    whole = blobs(60)
    whole[:, :50] = 61
    assert codes(whole, "instances") == []
