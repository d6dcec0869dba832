"""From files with masks to a trained network."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

from services.trainer import train as training
from services.trainer.augment import flip_and_turn
from services.trainer.data import Crops, Sample, load_samples, split
from services.trainer.losses import pixel_loss
from services.trainer.train import Trained, train
from services.trainer.validation import overlap, validate
from shared.errors import Cancelled, Rejected
from shared.imaging.drawing import draw_nuclei
from shared.imaging.tiling import Pixels
from shared.schemas.jobs import TrainIn

NETWORK = {"widths": [4, 8], "channels": 3, "classes": 1}


def make_order(**changes: Any) -> TrainIn:
    fields: dict[str, Any] = {
        "kind": "train",
        "dataset_version": UUID(int=0),
        "model": "nuclei",
        "network": NETWORK,
        "epochs": 2,
        "batch_size": 2,
        "crop": 32,
        "learning_rate": 1e-2,
    }
    return TrainIn(**(fields | changes))


def draw_sample(name: str, *, height: int = 48, width: int = 40, seed: int = 0) -> Sample:
    image, labels = draw_nuclei(height, width, seed=seed, stain="fluorescence")
    return Sample(name, image, (labels > 0).astype(np.uint8))


SAMPLES = [draw_sample(f"{index}.png", seed=index) for index in range(4)]


def train_quietly(order: TrainIn, samples: list[Sample] = SAMPLES) -> Trained:
    return train(order, samples, check=lambda: None, note=lambda note: None)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from more, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., tuple[str, Path, Path]]:
    """Store an image and a mask, as PNG or TIFF."""

    def write_pair(image: Pixels, mask: NDArray[Any], suffix: str = ".png") -> tuple[str, Path, Path]:
        image_path, mask_path = tmp_path / "image.png", tmp_path / f"mask{suffix}"
        Image.fromarray(image).save(image_path)
        if suffix == ".png":
            Image.fromarray(mask).save(mask_path)
        else:
            tifffile.imwrite(mask_path, mask)
        return "cells.png", image_path, mask_path

    return write_pair


GREY = np.full((4, 6, 3), (10, 20, 60), np.uint8)
INSTANCES = np.arange(24).reshape(4, 6)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, bool])
def test_with_one_class_every_label_is_foreground(write: Any, suffix: str, dtype: type) -> None:
    (sample,) = load_samples([write(GREY, INSTANCES.astype(dtype), suffix)], channels=3, classes=1)
    np.testing.assert_array_equal(sample.mask, INSTANCES > 0)
    np.testing.assert_array_equal(sample.image, GREY)


def test_with_more_classes_the_value_is_the_class(write: Any) -> None:
    (sample,) = load_samples([write(GREY, (INSTANCES % 3).astype(np.uint8))], channels=1, classes=3)
    np.testing.assert_array_equal(sample.mask, INSTANCES % 3)
    assert sample.image.shape == (4, 6, 1)
    assert (sample.image == 30).all()


def test_a_grey_mask_saved_in_colour_is_taken(write: Any) -> None:
    mask = np.repeat(INSTANCES[:, :, None].astype(np.uint8), 3, axis=2)
    (sample,) = load_samples([write(GREY, mask)], channels=3, classes=1)
    np.testing.assert_array_equal(sample.mask, INSTANCES > 0)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((4, 6), 3, np.uint8), r"cells.png: the mask holds the value 3, but with 3 classes only 0 … 2"),
        (np.zeros((4, 5), np.uint8), r"cells.png: the image has 6 × 4 px but its mask 5 × 4 px"),
        (np.stack([INSTANCES] * 2 + [INSTANCES + 1], -1).astype(np.uint8), "one whole number per pixel"),
    ],
)
def test_a_mask_that_does_not_fit_is_rejected_with_the_mend(write: Any, mask: NDArray[Any], message: str) -> None:
    with pytest.raises(Rejected, match=message):
        load_samples([write(GREY, mask)], channels=3, classes=3)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"II*\0cut off", b"\x89PNG\r\n\x1a\n"])
def test_a_damaged_mask_is_rejected_by_name(write: Any, content: bytes) -> None:
    name, image, mask = write(GREY, np.zeros((4, 6), np.uint8))
    mask.write_bytes(content)
    with pytest.raises(Rejected, match=r"cells\.png: the mask is no readable PNG or TIFF"):
        load_samples([(name, image, mask)], channels=3, classes=1)


def test_the_split_depends_on_names_and_seed_only() -> None:
    learn, hold = split(SAMPLES, fraction=0.25, seed=1)
    again, held_again = split(SAMPLES[::-1], fraction=0.25, seed=1)
    assert [s.name for s in learn] == [s.name for s in again]
    assert [s.name for s in hold] == [s.name for s in held_again]
    assert {s.name for s in learn} | {s.name for s in hold} == {s.name for s in SAMPLES}


@pytest.mark.parametrize(("fraction", "held"), [(0.001, 1), (0.5, 2), (0.999, 3)])
def test_both_sides_of_the_split_get_at_least_one_image(fraction: float, held: int) -> None:
    learn, hold = split(SAMPLES, fraction=fraction, seed=0)
    assert (len(learn), len(hold)) == (4 - held, held)


def test_a_single_image_cannot_be_split() -> None:
    with pytest.raises(Rejected, match="at least 2 images"):
        split(SAMPLES[:1], fraction=0.2, seed=0)


def test_crops_are_the_same_for_the_same_seed_and_epoch_only() -> None:
    def first(seed: int, epoch: int) -> Pixels:
        return next(iter(Crops(SAMPLES, side=16, batch_size=2, seed=seed).draw(epoch))).images

    np.testing.assert_array_equal(first(0, 1), first(0, 1))
    assert (first(0, 1) != first(0, 2)).any()
    assert (first(0, 1) != first(1, 1)).any()


def test_an_epoch_shows_as_many_pixels_as_the_images_have() -> None:
    crops = Crops(SAMPLES, side=16, batch_size=5, seed=0)
    batches = list(crops.draw(1))
    assert crops.steps == len(batches) == 7  # 4 images of 48 × 40 px hold 8 crops each
    assert all(batch.images.shape == (5, 16, 16, 3) for batch in batches)


def test_an_image_smaller_than_the_crop_is_mirrored() -> None:
    tiny = Sample("tiny", np.full((3, 2, 3), 7, np.uint8), np.ones((3, 2), np.uint8))
    (batch,) = Crops([tiny], side=32, batch_size=1, seed=0).draw(1)
    assert batch.images.shape == (1, 32, 32, 3)
    assert (batch.images == 7).all()
    assert (batch.masks == 1).all()


def test_image_and_mask_turn_together() -> None:
    mask = np.arange(64, dtype=np.uint8).reshape(8, 8)
    image = np.repeat(mask[:, :, None], 3, axis=2)
    generator, seen = np.random.default_rng(0), set()
    for _ in range(100):
        turned, turned_mask = flip_and_turn(image, mask, generator)
        np.testing.assert_array_equal(turned[:, :, 0], turned_mask)
        seen.add(turned_mask.tobytes())
    assert len(seen) == 8


@pytest.mark.parametrize("planes", [1, 3])
def test_the_loss_is_small_for_the_truth_and_large_for_its_contrary(planes: int) -> None:
    masks = torch.tensor([[[0, 1], [1, 0]]])
    true = 20.0 * (2 * masks[:, None] - 1) if planes == 1 else 20.0 * torch.eye(3)[masks].permute(0, 3, 1, 2)
    assert pixel_loss(true, masks) < 1e-6
    assert pixel_loss(-true, masks) > 10


def test_overlap_counts_only_classes_that_are_there_or_found() -> None:
    counts = np.array([[50, 0, 5, 0], [0, 0, 0, 0], [5, 0, 10, 0], [0, 0, 0, 0]])  # rows are the truth
    assert overlap(counts) == pytest.approx((20 / 30, 10 / 20))
    assert overlap(np.diag([9, 0, 0])) == (1.0, 1.0)


def test_the_same_order_gives_the_same_weights() -> None:
    first, second = (train_quietly(make_order()).network.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = train_quietly(make_order(seed=1)).network.state_dict()
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_training_learns_to_find_drawn_nuclei() -> None:
    samples = [draw_sample(f"{index}", height=64, width=64, seed=index) for index in range(8)]
    trained = train_quietly(make_order(epochs=12, crop=64, network=NETWORK | {"widths": [8, 16]}), samples)
    assert trained.history[-1].train_loss < 0.7 * trained.history[0].train_loss
    assert trained.best.validation_dice > 0.6


def test_the_best_epoch_is_the_one_that_is_kept() -> None:
    from lightning_fabric import Fabric

    order = make_order(epochs=4)
    trained = train_quietly(order)
    fabric = Fabric(accelerator="cpu", precision=training.choose_precision())
    _, held = split(SAMPLES, fraction=order.validation_fraction, seed=order.seed)
    scores = validate(trained.network, held, fabric=fabric, check=lambda: None)
    assert trained.best.validation_dice == max(epoch.validation_dice for epoch in trained.history)
    assert scores.dice == pytest.approx(trained.best.validation_dice)
    assert not trained.network.training


def test_validation_in_tiles_scores_as_the_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_fabric import Fabric

    trained, fabric = train_quietly(make_order()), Fabric(accelerator="cpu", precision="32-true")
    sample = draw_sample("large", height=90, width=75)
    whole = validate(trained.network, [sample], fabric=fabric, check=lambda: None)
    monkeypatch.setattr("services.trainer.validation._CORE", 32)
    tiled = validate(trained.network, [sample], fabric=fabric, check=lambda: None)
    assert (tiled.dice, tiled.iou) == (whole.dice, whole.iou)
    assert tiled.loss == pytest.approx(whole.loss)


def test_several_classes_train_too() -> None:
    samples = [Sample(s.name, s.image, s.mask * (1 + index % 2)) for index, s in enumerate(SAMPLES)]
    trained = train_quietly(make_order(network=NETWORK | {"classes": 3}), samples)
    assert len(trained.history) == 2


def test_every_epoch_is_noted() -> None:
    notes: list[dict[str, Any]] = []
    train(make_order(epochs=3), SAMPLES, check=lambda: None, note=notes.append)
    ends = [note for note in notes if note["step"] == note["steps"] and "validation_dice" in note]
    assert [note["epoch"] for note in ends] == [1, 2, 3]
    assert {"epochs", "train_loss", "validation_loss", "validation_iou", "best_epoch", "best_dice"} <= ends[-1].keys()


def test_what_check_raises_ends_the_training() -> None:
    calls = 0

    def cancel_at_the_third_step() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        train(make_order(epochs=1000), SAMPLES, check=cancel_at_the_third_step, note=lambda note: None)
    assert calls == 3


def test_a_training_that_diverges_is_rejected_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([0.5, 0.5, float("nan")])
    monkeypatch.setattr(training, "pixel_loss", lambda logits, masks: logits.mean() * 0 + next(losses))
    with pytest.raises(Rejected, match=r"became nan in epoch 1, step 3.*lower learning_rate, 0.01 now, to 0.001"):
        train_quietly(make_order())


@pytest.mark.parametrize(
    ("changes", "mend"),
    [
        ({"crop": 33}, "crop must be a multiple of 2 px for a network of 2 levels, got 33; 32 would do"),
        ({"crop": 32, "batch_size": 1, "network": NETWORK | {"widths": [1] * 6}}, "raise crop or batch_size"),
    ],
)
def test_an_order_that_cannot_work_is_rejected_before_any_step(changes: dict[str, Any], mend: str) -> None:
    with pytest.raises(Rejected, match=mend):
        train_quietly(make_order(**changes))


def test_a_training_set_that_does_not_fit_in_memory_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.zeros((20, 30, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((20, 30), dtype=np.uint8)).save(tmp_path / "mask.png")
    monkeypatch.setattr("services.trainer.data.LARGEST_SET", 20 * 30 * 4 * 2)
    pairs = [(name, tmp_path / "a.png", tmp_path / "mask.png") for name in ("one", "two", "three")]
    assert len(load_samples(pairs[:2], channels=3, classes=1)) == 2
    with pytest.raises(Rejected, match="three: with this image of 30 × 20 px"):
        load_samples(pairs, channels=3, classes=1)
