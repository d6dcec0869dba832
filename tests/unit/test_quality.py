"""What is measured of an image before anyone relies on it, and when it is warned of."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from services.trainer.data import Sample
from services.trainer.job import describe_images
from shared.imaging.drawing import draw_nuclei
from shared.imaging.familiarity import FEWEST, Familiar, find_familiar
from shared.imaging.flags import Confidence, find_flags
from shared.imaging.quality import Features, choose_windows, measure_features
from shared.imaging.tiling import Box, Pixels
from shared.schemas.contracts import Tiling, TilingContract
from shared.schemas.quality import ImageStatistics
from tests.rows import CONTRACT

SIDE = st.integers(1, 6000)
SURE = Confidence(sure=1000)


@cache
def drawn(seed: int, side: int = 128) -> Pixels:
    """Nuclei as they look in fluorescence."""
    return draw_nuclei(side, side, seed=seed, stain="fluorescence")[0]


def measured(image: Pixels) -> Features:
    return measure_features(lambda box: image[box.slices()], *image.shape[:2])


def blurred(image: Pixels) -> Pixels:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 3), dtype=np.uint8)


def overexposed(image: Pixels) -> Pixels:
    return np.clip(image.astype(np.float32) * 4, 0, 255).astype(np.uint8)


def inverted(image: Pixels) -> Pixels:
    return 255 - image


@pytest.fixture(scope="module")
def familiar() -> Familiar:
    found = find_familiar([measured(drawn(seed)) for seed in range(40)])
    assert found is not None
    return found


def codes(image: Pixels, familiar: Familiar | None, confidence: Confidence = SURE) -> list[str]:
    return [flag.code for flag in find_flags(measured(image), confidence, familiar, "a.png").flags]


@given(height=SIDE, width=SIDE)
def test_windows_lie_inside_the_image_and_are_nine_at_most(height: int, width: int) -> None:
    boxes = choose_windows(height, width)
    assert 1 <= len(boxes) <= 9
    assert all(box.top >= 0 and box.left >= 0 and box.bottom <= height and box.right <= width for box in boxes)
    assert all(max(box.height, box.width) <= 512 for box in boxes)


def test_a_small_image_is_looked_at_whole() -> None:
    assert choose_windows(300, 512) == [Box(0, 0, 300, 512)]


def test_windows_lie_where_there_is_tissue() -> None:
    boxes = choose_windows(20_000, 20_000, lambda box: box.left >= 15_000)
    assert len(boxes) == 9
    assert all(box.left >= 15_000 for box in boxes)


def test_where_no_window_has_tissue_all_of_the_image_is_looked_at() -> None:
    assert choose_windows(20_000, 20_000, lambda box: False) == choose_windows(20_000, 20_000)


@settings(max_examples=20)
@given(gain=st.floats(0.4, 1.0), offset=st.integers(0, 60))
def test_focus_hardly_depends_on_contrast_and_brightness(gain: float, offset: int) -> None:
    image = drawn(1)
    changed = np.rint(np.minimum(image, 190) * gain + offset).astype(np.uint8)
    assert abs(measured(changed).focus - measured(np.minimum(image, 190)).focus) < 0.5


def test_a_blurred_image_has_less_focus() -> None:
    assert measured(blurred(drawn(1))).focus < measured(drawn(1)).focus - 1


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 40, 1), (3, 2, 3), (8, 8, 1)])
def test_the_smallest_image_has_features(shape: tuple[int, int, int]) -> None:
    assert np.isfinite(list(asdict(measured(np.full(shape, 7, np.uint8))).values())).all()


def test_an_image_without_contrast_is_not_out_of_focus() -> None:
    assert codes(np.full((64, 64, 3), 90, np.uint8), None) == []


def test_a_grey_image_is_measured_as_its_channels_repeated() -> None:
    image = drawn(2)[:, :, :1]
    assert measured(image) == measured(np.repeat(image, 3, axis=2))


def test_an_image_that_was_learnt_from_has_no_flags_when_it_is_turned(familiar: Familiar) -> None:
    flagged = [seed for seed in range(40) if codes(np.ascontiguousarray(np.rot90(drawn(seed))), familiar)]
    assert len(flagged) <= 1  # the one that is beyond the 99th percentile


@pytest.mark.parametrize(
    ("spoil", "code"),
    [(blurred, "out_of_focus"), (overexposed, "saturated"), (inverted, "unfamiliar")],
)
def test_a_spoilt_image_is_flagged(spoil: Callable[[Pixels], Pixels], code: str, familiar: Familiar) -> None:
    assert all(code in codes(spoil(drawn(seed)), familiar) for seed in range(100, 105))


def test_stained_tissue_is_unlike_fluorescence(familiar: Familiar) -> None:
    tissue, _ = draw_nuclei(128, 128, seed=3, stain="histology")
    assert "unfamiliar" in codes(tissue, familiar)


def test_white_glass_is_not_overexposed() -> None:
    glass = np.full((256, 256, 3), 255, np.uint8)
    glass[60:120, 60:120] = draw_nuclei(60, 60, seed=1, stain="histology")[0]
    assert "saturated" not in codes(glass, None)


def test_without_a_word_about_the_training_images_likeness_is_not_told() -> None:
    found = find_flags(measured(inverted(drawn(1))), SURE, None, "a.png")
    assert found.learnt_from is None
    assert "unfamiliar" not in [flag.code for flag in found.flags]


def test_a_flag_names_the_image_the_figure_and_the_mend(familiar: Familiar) -> None:
    flags = find_flags(measured(inverted(blurred(drawn(1)))), Confidence(unsure=900, sure=100), familiar, "a.png").flags
    assert [flag.text.split(":")[0] for flag in flags] == ["a.png"] * len(flags)
    assert all(any(digit in flag.text for digit in "0123456789") and "; " in flag.text for flag in flags)
    assert {flag.severity for flag in flags} == {"warning"}


def test_a_picture_that_the_model_is_unsure_of_is_flagged() -> None:
    assert "low_confidence" in codes(drawn(1), None, Confidence(unsure=700, sure=300))


def test_next_to_nothing_found_is_no_reason_to_doubt() -> None:
    assert Confidence(unsure=50, sure=0).doubt is None


PLANES = st.integers(1, 4).flatmap(
    lambda count: st.integers(0, 2**32 - 1).map(
        lambda seed: np.random.default_rng(seed).integers(0, 256, (count, 24, 30), dtype=np.uint8)
    )
)


@given(planes=PLANES, row=st.integers(1, 23), column=st.integers(1, 29))
def test_doubt_is_the_same_however_the_image_is_cut(planes: Pixels, row: int, column: int) -> None:
    whole, parts = Confidence(), Confidence()
    whole.add(planes)
    for rows in (slice(None, row), slice(row, None)):
        for columns in (slice(None, column), slice(column, None)):
            parts.add(planes[:, rows, columns])
    assert parts == whole


def test_of_several_classes_one_that_is_sure_is_enough() -> None:
    confidence = Confidence()
    confidence.add(np.array([[[10, 100, 250]], [[240, 100, 3]], [[5, 55, 2]]], np.uint8))
    assert (confidence.sure, confidence.unsure) == (1, 1)


def test_few_images_do_not_say_what_is_usual() -> None:
    assert find_familiar([measured(drawn(1))] * (FEWEST - 1)) is None


def test_a_training_tells_what_its_images_look_like() -> None:
    mask = np.zeros((64, 64), np.uint8)
    samples = [Sample(str(seed), drawn(seed, 64), mask, features=measured(drawn(seed, 64))) for seed in range(FEWEST)]
    found = describe_images(samples)
    assert found is not None
    assert (found.images, len(found.examples)) == (FEWEST, FEWEST)


def as_contract(familiar: Familiar) -> TilingContract:
    return TilingContract.model_validate({**CONTRACT.model_dump(), "familiar": asdict(familiar)})


def test_a_contract_keeps_what_the_images_look_like(familiar: Familiar) -> None:
    stored = TilingContract.model_validate_json(as_contract(familiar).model_dump_json())
    image = measured(inverted(drawn(1)))
    assert find_flags(image, SURE, stored.familiar, "a") == find_flags(image, SURE, familiar, "a")


def test_a_contract_of_before_has_no_word_about_images() -> None:
    before = CONTRACT.model_dump()
    before.pop("familiar")
    assert TilingContract.model_validate(before).familiar is None


def test_the_contract_that_lists_of_models_show_is_without_the_examples(familiar: Familiar) -> None:
    assert "familiar" not in Tiling.model_validate(as_contract(familiar).model_dump()).model_dump()


@pytest.mark.parametrize("field", ["quantiles", "examples"])
def test_statistics_of_another_shape_are_refused(field: str, familiar: Familiar) -> None:
    broken: dict[str, Sequence[Sequence[float]] | dict[str, Sequence[float]]] = {
        "quantiles": {"focus": [1.0, 2.0]},
        "examples": [[1.0, 2.0]],
    }
    with pytest.raises(ValidationError):
        ImageStatistics.model_validate({**asdict(familiar), field: broken[field]})


def test_a_model_that_learnt_from_twins_alone_judges_other_images() -> None:
    found = find_familiar([measured(drawn(seed // 2)) for seed in range(40)])
    assert found is not None
    assert "unfamiliar" in codes(inverted(drawn(100)), found)


def test_a_contract_that_knows_no_distance_calls_the_same_image_alike(familiar: Familiar) -> None:
    nowhere = Familiar(familiar.images, familiar.quantiles, familiar.examples, 0.0)
    assert "unfamiliar" not in codes(drawn(0), nowhere)
    assert "unfamiliar" in codes(inverted(drawn(0)), nowhere)
