"""What a dataset is like as a whole."""

import tracemalloc

import numpy as np
import pytest

from shared.examination.images import examine_image
from shared.examination.labels import examine_labels
from shared.examination.summary import ImageRecord, summarise
from shared.imaging.drawing import draw_nuclei
from shared.schemas.manifests import Problem
from tests.array_slides import ArraySlide, flat

IMAGE, LABELS = draw_nuclei(96, 128, seed=3, stain="histology")
CLASSES = (LABELS % 3).astype(np.uint8)
EXAMINED = examine_image(ArraySlide(IMAGE, mpp=0.4991), check=lambda: None)
GREY = examine_image(ArraySlide(flat(100)), check=lambda: None)
FOUND = examine_labels(LABELS, CLASSES)
WARNING = Problem(code="image_blank", severity="warning", text="a.png: …")
ERROR = Problem(code="mask_missing", severity="error", text="b.png: …")
GOOD = ImageRecord("good.png", accepted=True, split="train", examination=EXAMINED, labels=FOUND)


def test_images_are_counted_by_what_became_of_them() -> None:
    warned = ImageRecord("a.png", accepted=True, problems=[WARNING], examination=EXAMINED)
    rejected = ImageRecord("b.png", accepted=False, problems=[ERROR, WARNING])
    found = summarise([GOOD, warned, rejected])
    assert (found.images, found.accepted, found.rejected, found.warned) == (3, 2, 1, 1)
    assert found.problems == {"image_blank": 2, "mask_missing": 1}
    assert found.splits == {"none": 1, "train": 1}


def test_rejected_images_are_no_part_of_the_statistics() -> None:
    rejected = ImageRecord("b.png", accepted=False, split="test", examination=GREY, labels=FOUND)
    statistics = {"images", "rejected"}
    assert summarise([GOOD, rejected]).model_dump(exclude=statistics) == summarise([GOOD]).model_dump(
        exclude=statistics
    )


def test_sizes_and_resolutions_are_those_of_the_images() -> None:
    found = summarise([GOOD, GOOD])
    assert (found.sizes, found.resolutions, found.formats) == ({"128 × 96": 2}, {"0.499": 2}, {"array": 2})
    assert found.pixels == 2 * 96 * 128


def test_brightness_of_all_pixels_is_weighed_by_size() -> None:
    large = examine_image(ArraySlide(flat(200, width=192)), check=lambda: None)
    records = [ImageRecord(name, accepted=True, examination=one) for name, one in (("a", GREY), ("b", large))]
    [shares] = summarise(records).intensities
    assert [shares[100 // 4], shares[200 // 4]] == pytest.approx([0.25, 0.75])


def test_a_grey_image_counts_in_every_channel_beside_coloured_ones() -> None:
    found = summarise([GOOD, ImageRecord("grey.png", accepted=True, examination=GREY)])
    assert [sum(shares) for shares in found.intensities] == [pytest.approx(1)] * 3


def test_objects_and_classes_are_added_up() -> None:
    found = summarise([GOOD, GOOD])
    assert FOUND.objects is not None
    assert found.objects == 2 * FOUND.objects == sum(found.object_sizes)
    assert found.classes[1].pixels == 2 * int((CLASSES == 1).sum())
    assert found.classes[1].images == found.masked == 2


def test_without_masks_there_are_no_objects() -> None:
    found = summarise([ImageRecord("a.png", accepted=True, examination=EXAMINED)])
    assert (found.objects, found.foreground, found.masked) == (None, None, 0)


def test_an_empty_version_has_a_summary() -> None:
    found = summarise([])
    assert (found.images, found.focus) == (0, None)


def test_any_number_of_images_takes_the_memory_of_a_few() -> None:
    def arrive() -> ImageRecord:
        return ImageRecord("x" * 5000, accepted=True, problems=[WARNING], examination=GREY.model_copy())

    tracemalloc.start()
    found = summarise(arrive() for _ in range(3000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.accepted == 3000
    assert peak < 1e6


def test_no_number_of_different_sizes_makes_the_summary_long() -> None:
    records = [
        ImageRecord("a", accepted=True, examination=GREY.model_copy(update={"width": width})) for width in range(1, 300)
    ]
    sizes = summarise(records).sizes
    assert len(sizes) <= 51
    assert sum(sizes.values()) == 299
