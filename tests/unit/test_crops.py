"""Which images are learnt from, and what a step sees of them."""

from typing import Any

import numpy as np
import pytest

from services.trainer.data import Crops, Sample, split
from services.trainer.data.border_weights import weigh_borders
from shared.errors import Rejected
from shared.imaging.drawing import draw_nuclei
from shared.schemas.training import BorderIn, GroupSplit, ListSplit, RatioSplit


def draw_sample(name: str, *, height: int = 48, width: int = 40, seed: int = 0, border: bool = False) -> Sample:
    image, labels = draw_nuclei(height, width, seed=seed, stain="fluorescence")
    weights = weigh_borders(labels.astype(np.int32), BorderIn()) if border else None
    return Sample(name, image, (labels > 0).astype(np.uint8), weights)


SAMPLES = [draw_sample(f"{index}.png", seed=index) for index in range(4)]


# Splits


def names_of(samples: list[Sample]) -> list[str]:
    return [sample.name for sample in samples]


def rename(*names: str) -> list[Sample]:
    return [Sample(name, SAMPLES[0].image, SAMPLES[0].mask) for name in names]


PLATES = rename(
    *(f"images/p{plate}_{field:02}.png" for plate, fields in enumerate([4, 1, 3, 2]) for field in range(fields))
)


@pytest.mark.parametrize("how", [RatioSplit(fraction=0.25), GroupSplit(by="group", fraction=0.25)])
@pytest.mark.parametrize("samples", [SAMPLES, PLATES])
def test_the_split_depends_on_names_and_seed_only(samples: list[Sample], how: RatioSplit | GroupSplit) -> None:
    learn, hold = split(samples, how, seed=1)
    again, held_again = split(samples[::-1], how, seed=1)
    assert names_of(learn) == names_of(again)
    assert names_of(hold) == names_of(held_again)
    assert sorted(names_of(learn) + names_of(hold)) == sorted(names_of(samples))
    assert len({tuple(sorted(names_of(split(samples, how, seed=seed)[1]))) for seed in range(20)}) > 1


@pytest.mark.parametrize(("fraction", "held"), [(0.001, 1), (0.5, 2), (0.999, 3)])
@pytest.mark.parametrize("by", ["ratio", "group"])
def test_both_sides_of_the_split_get_at_least_one_image(by: str, fraction: float, held: int) -> None:
    how = RatioSplit(fraction=fraction) if by == "ratio" else GroupSplit(by="group", fraction=fraction)
    learn, hold = split(SAMPLES, how, seed=0)
    assert (len(learn), len(hold)) == (4 - held, held)


@pytest.mark.parametrize("how", [RatioSplit(), GroupSplit(by="group"), ListSplit(by="list", validation=["0.png"])])
def test_a_single_image_cannot_be_split(how: Any) -> None:
    with pytest.raises(Rejected, match="at least 2 images"):
        split(SAMPLES[:1], how, seed=0)


@pytest.mark.parametrize("seed", range(10))
def test_by_group_no_source_is_on_both_sides_and_so_is_no_crop(seed: int) -> None:
    learn, hold = split(PLATES, GroupSplit(by="group", fraction=0.3), seed=seed)
    sources = [{sample.name.split("_")[0] for sample in side} for side in (learn, hold)]
    assert all(sources)
    assert sources[0].isdisjoint(sources[1])
    assert 1 <= len(hold) <= 4  # 3 of 10, as nearly as whole plates allow
    crops = Crops(learn, side=16, margin=4, batch_size=4, seed=seed, per_image=2)
    seen = {name for epoch in (1, 2) for step in range(crops.steps) for name in crops.batch(epoch, step).names}
    assert seen == set(names_of(learn))
    assert seen.isdisjoint(names_of(hold))


def test_the_source_is_as_many_fields_of_the_name_as_ordered() -> None:
    samples = rename("images/a-1-x.png", "images/a-1-y.png", "images/a-2-x.png", "images/a-2-y.png")
    how = GroupSplit(by="group", fraction=0.5, separator="-", fields=2)
    learn, hold = split(samples, how, seed=0)
    assert {name[:10] for name in names_of(learn)}.isdisjoint({name[:10] for name in names_of(hold)})
    assert len(learn) == len(hold) == 2
    with pytest.raises(Rejected, match=r"all images are of one source, a, .* set other fields"):
        split(samples, how.model_copy(update={"fields": 1}), seed=0)


def test_by_list_the_named_images_validate() -> None:
    learn, hold = split(SAMPLES, ListSplit(by="list", validation=["2.png", "0.png"]), seed=0)
    assert names_of(hold) == ["0.png", "2.png"]
    assert names_of(learn) == ["1.png", "3.png"]


@pytest.mark.parametrize(
    ("listed", "message"),
    [(["0.png", "7.png"], r"7\.png: the split lists this image"), (["0.png", "1.png", "2.png", "3.png"], "lists all")],
)
def test_a_list_that_does_not_fit_is_rejected(listed: list[str], message: str) -> None:
    with pytest.raises(Rejected, match=message):
        split(SAMPLES, ListSplit(by="list", validation=listed), seed=0)


# Crops


def make_crops(samples: list[Sample] = SAMPLES, **changes: Any) -> Crops:
    fields: dict[str, Any] = {"side": 16, "margin": 0, "batch_size": 5, "seed": 0, "per_image": None}
    return Crops(samples, **(fields | changes))


def test_any_batch_can_be_drawn_alone() -> None:
    crops = make_crops()
    in_order = [crops.batch(3, step).images for step in range(crops.steps)]
    for step in reversed(range(crops.steps)):
        np.testing.assert_array_equal(make_crops().batch(3, step).images, in_order[step])


def test_batches_differ_by_seed_epoch_and_step() -> None:
    drawn = [(0, 1, 0), (1, 1, 0), (0, 2, 0), (0, 1, 1), (0, 0, 0), (0, 0, 1)]
    batches = [make_crops(seed=seed).batch(epoch, step).images.tobytes() for seed, epoch, step in drawn]
    assert len(set(batches)) == len(drawn)


def test_an_epoch_shows_as_many_pixels_as_the_images_have() -> None:
    crops = make_crops()
    batches = [crops.batch(1, step) for step in range(crops.steps)]
    assert crops.steps == 7  # 4 images of 48 × 40 px hold 8 crops each
    assert all(batch.images.shape == (5, 16, 16, 3) for batch in batches)
    shown = [name for batch in batches for name in batch.names][:32]  # the last three begin anew
    assert all(shown.count(sample.name) == 8 for sample in SAMPLES)


def test_each_image_gives_as_many_crops_as_ordered() -> None:
    crops = make_crops(per_image=3, batch_size=6)
    shown = [name for step in range(crops.steps) for name in crops.batch(1, step).names]
    assert sorted(shown) == sorted(names_of(SAMPLES) * 3)


def test_a_step_beyond_the_epoch_is_refused() -> None:
    with pytest.raises(IndexError, match=r"0 … 6, not 7"):
        make_crops().batch(1, 7)


def test_an_image_smaller_than_the_crop_is_mirrored() -> None:
    tiny = Sample("tiny", np.full((3, 2, 3), 7, np.uint8), np.ones((3, 2), np.uint8))
    batch = make_crops([tiny], side=32, batch_size=1).batch(1, 0)
    assert batch.images.shape == (1, 32, 32, 3)
    assert (batch.images == 7).all()
    assert (batch.masks == 1).all()
    assert batch.borders is None


def test_image_mask_and_border_are_cut_from_one_place_with_its_margin() -> None:
    ramp = np.arange(40 * 30, dtype=np.uint16).reshape(40, 30)
    low = (ramp % 251).astype(np.uint8)
    sample = Sample("ramp", low[:, :, None].repeat(3, 2), low, low.astype(np.float16))
    batch = make_crops([sample], side=16, margin=6, batch_size=4, per_image=8).batch(1, 0)
    assert batch.borders is not None
    assert batch.images.shape == (4, 28, 28, 3)
    np.testing.assert_array_equal(batch.images[..., 0], batch.masks)
    np.testing.assert_array_equal(batch.borders, batch.masks)
    assert batch.borders.dtype == np.float16
    middle = {tuple(low[top : top + 16, left : left + 16].ravel()) for top in range(25) for left in range(15)}
    assert all(tuple(mask[6:-6, 6:-6].ravel()) in middle for mask in batch.masks)
    padded = np.pad(low, 6, mode="reflect")
    whole = {tuple(padded[top : top + 28, left : left + 28].ravel()) for top in range(25) for left in range(15)}
    assert all(tuple(mask.ravel()) in whole for mask in batch.masks)


def test_crops_carry_the_border_weights_of_their_samples() -> None:
    samples = [draw_sample(f"{index}", seed=index, border=True) for index in range(2)]
    batch = make_crops(samples, side=48).batch(1, 0)
    assert batch.borders is not None
    assert batch.borders.shape == batch.masks.shape
