"""Steps that make sets: tiles, splits, the augmented set; and a whole list of steps on one image."""

import hashlib
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import Rejected
from shared.imaging.drawing import draw_nuclei
from shared.imaging.steps.augmentation import VARIANTS, augment, describe
from shared.imaging.steps.sets import split
from shared.imaging.steps.tiles import Tiles
from shared.imaging.steps.transform import Made, Source, transform
from shared.imaging.steps.truth import Labels, Truth
from shared.imaging.steps.views import Frame, View
from shared.imaging.tiling import Box, Pixels
from shared.schemas.step_kinds import SplitStep
from shared.schemas.steps import as_json, read_steps

SIDE = st.integers(1, 300)


def drawn(height: int = 96, width: int = 128) -> tuple[Pixels, Labels]:
    pixels, labels = draw_nuclei(height, width, seed=3, stain="histology")
    return pixels, labels.astype(np.int32)


def make(steps: list[dict[str, Any]], split: str | None = None, **truth: Any) -> list[Made]:
    pixels, labels = drawn()
    stored = as_json(read_steps(steps))
    view = View.of(pixels, name="images/a.png")
    return list(transform(view, Truth(**(truth or {"labels": labels})), stored, Source("d" * 64, None, split)))


def splitting(**fields: Any) -> SplitStep:
    return SplitStep.model_validate({"step": "split", **fields})


class TestTiles:
    @given(height=SIDE, width=SIDE, size=st.integers(16, 64), share=st.floats(0, 0.99))
    def test_they_cover_the_image_in_full_size(self, height: int, width: int, size: int, share: float) -> None:
        tiles = Tiles(size, int(size * share))
        covered = np.zeros((height, width), bool)
        for _, box in tiles.places(height, width):
            assert (box.height, box.width) == (min(size, height), min(size, width))
            covered[box.slices()] = True
        assert covered.all()

    @given(height=SIDE, width=SIDE, size=st.integers(16, 64))
    def test_cut_tiles_without_overlap_cover_each_pixel_once(self, height: int, width: int, size: int) -> None:
        times = np.zeros((height, width), int)
        for _, box in Tiles(size, edge="cut").places(height, width):
            times[box.slices()] += 1
        assert (times == 1).all()

    @given(height=SIDE, width=SIDE, size=st.integers(16, 64), overlap=st.integers(0, 15))
    def test_neighbours_overlap_by_what_was_ordered(self, height: int, width: int, size: int, overlap: int) -> None:
        places = list(Tiles(size, overlap, edge="drop").places(height, width))
        lefts = sorted({box.left for _, box in places})
        assert all((box.height, box.width) == (size, size) for _, box in places)
        assert all(after - before == size - overlap for before, after in pairwise(lefts))

    @given(height=SIDE, width=SIDE)
    def test_no_two_have_one_name(self, height: int, width: int) -> None:
        names = [name for name, _ in Tiles(32, 8).places(height, width)]
        assert len(set(names)) == len(names)

    def test_tiles_with_too_little_foreground_are_left_out(self) -> None:
        labels = np.zeros((64, 64), np.int32)
        labels[:32, :16] = 1
        view = View.of(np.zeros((64, 64, 3), np.uint8))
        chosen = Tiles(32, least_foreground=0.5).choose(view, Truth(labels))
        assert [name for name, _, _ in chosen] == ["_r0_c0"]

    def test_tiles_of_bare_glass_are_left_out(self) -> None:
        noise = np.random.default_rng(0).integers(-2, 3, (800, 900, 3))
        pixels = (np.array([243, 242, 245]) + noise).astype(np.uint8)
        pixels[700:730, 840:870] = (120, 60, 140)
        chosen = [box for _, box, _ in Tiles(100, only_tissue=True).choose(View.of(pixels), Truth())]
        assert Box(700, 800, 800, 900) in chosen
        assert len(chosen) <= 4

    def test_a_slide_is_read_no_more_than_a_tile_at_a_time(self) -> None:
        read: list[Box] = []

        def draw(box: Box) -> Pixels:
            read.append(box)
            return np.zeros((box.height, box.width, 3), np.uint8)

        steps = as_json(read_steps([{"step": "greyscale"}, {"step": "tile", "size": 256}]))
        view = View(Frame("slide.svs", 10**6, 10**6), draw)
        made = transform(view, Truth(), steps, Source("d"))
        assert next(made).pixels.shape == next(made).pixels.shape == (256, 256, 1)
        assert read == [Box(0, 0, 256, 256), Box(0, 256, 256, 512)]


class TestSplits:
    @given(
        groups=st.lists(st.sampled_from([*"abcdefgh", None]), min_size=2, max_size=60),
        validation=st.floats(0, 0.5),
        test=st.floats(0, 0.4),
        seed=st.integers(0, 9),
    )
    def test_no_group_is_parted(self, groups: list[str | None], validation: float, test: float, seed: int) -> None:
        names = [f"{number}.png" for number in range(len(groups))]
        parts = split(
            names, dict(zip(names, groups, strict=True)), splitting(validation=validation, test=test, seed=seed)
        )
        assert set(parts) == set(names)
        assert "train" in parts.values()
        for group in set(groups) - {None}:
            members = {parts[name] for name, each in zip(names, groups, strict=True) if each == group}
            assert len(members) == 1
        again = split(
            names[::-1], dict(zip(names, groups, strict=True)), splitting(validation=validation, test=test, seed=seed)
        )
        assert again == parts, "whatever the order"

    def test_single_images_are_split_by_the_ratio(self) -> None:
        names = [f"{number}.png" for number in range(100)]
        parts = list(split(names, {}, splitting(validation=0.2, test=0.1)).values())
        assert (parts.count("validation"), parts.count("test")) == (20, 10)

    def test_another_seed_splits_otherwise(self) -> None:
        names = [f"{number}.png" for number in range(100)]
        assert split(names, {}, splitting(seed=1)) != split(names, {}, splitting(seed=2))

    def test_two_groups_are_one_to_train_and_one_to_validate(self) -> None:
        groups: dict[str, str | None] = {"a": "x", "b": "x", "c": "y"}
        assert set(split(["a", "b", "c"], groups, splitting(validation=0.1)).values()) == {"train", "validation"}

    def test_a_list_names_images_and_a_group_list_groups(self) -> None:
        groups: dict[str, str | None] = {"a": "x", "b": "x", "c": None}
        by_list = splitting(by="list", validation_names=["c"])
        by_group = splitting(by="group", test_names=["x"])
        assert split(["a", "b", "c"], groups, by_list) == {"a": "train", "b": "train", "c": "validation"}
        assert split(["a", "b", "c"], groups, by_group) == {"a": "test", "b": "test", "c": "train"}

    def test_a_list_that_parts_a_group_is_refused(self) -> None:
        with pytest.raises(Rejected, match="the list parts the group 'x': a, b … belong together"):
            split(["a", "b"], {"a": "x", "b": "x"}, splitting(by="list", validation_names=["a"]))

    def test_a_name_that_is_none_is_refused(self) -> None:
        with pytest.raises(Rejected, match="'z' is not the name of an image"):
            split(["a", "b"], {}, splitting(by="list", validation_names=["z"]))

    def test_a_list_of_everything_leaves_nothing_to_train_on(self) -> None:
        with pytest.raises(Rejected, match="nothing is left to train on"):
            split(["a", "b"], {}, splitting(by="list", validation_names=["a", "b"]))


class TestVariants:
    def test_the_first_is_the_image_itself(self) -> None:
        pixels, labels = drawn()
        image, truth = augment(pixels, Truth(labels), 0, seed=0, digest="d")
        np.testing.assert_array_equal(image, pixels)
        np.testing.assert_array_equal(truth.labels, labels)

    def test_all_twenty_differ(self) -> None:
        pixels, labels = drawn()
        made = {augment(pixels, Truth(labels), each, seed=0, digest="d")[0].tobytes() for each in range(VARIANTS)}
        assert len(made) == VARIANTS == len({describe(each) for each in range(VARIANTS)})

    def test_they_hang_on_seed_and_digest_and_nothing_else(self) -> None:
        pixels, labels = drawn()

        def digest(seed: int, of: str) -> str:
            made = [augment(pixels, Truth(labels), each, seed=seed, digest=of) for each in range(8, VARIANTS)]
            return hashlib.sha256(b"".join(image.tobytes() for image, _ in made)).hexdigest()

        assert digest(0, "d") == digest(0, "d")
        assert len({digest(0, "d"), digest(1, "d"), digest(0, "e")}) == 3

    @pytest.mark.parametrize("variant", range(VARIANTS))
    def test_the_truth_moves_with_the_image(self, variant: int) -> None:
        """An image that is bright on its objects is so afterwards, but for mixed pixels at their borders."""
        labels = np.zeros((150, 170), np.int32)
        labels[20:60, 30:80], labels[90:140, 100:165] = 1, 2
        pixels = np.where(labels > 0, 220, 20).astype(np.uint8)[..., None]
        image, truth = augment(pixels, Truth(labels, (labels > 0).astype(np.uint8)), variant, seed=0, digest="d")
        assert truth.labels is not None
        assert image.shape[:2] == truth.labels.shape
        assert ((image[..., 0] > 120) == (truth.labels > 0)).mean() > 0.995
        np.testing.assert_array_equal(truth.classes, truth.labels > 0)

    @settings(max_examples=30, deadline=None)
    @given(variant=st.integers(8, 19), height=st.integers(1, 60), width=st.integers(1, 60), seed=st.integers(0, 3))
    def test_no_size_is_too_small(self, variant: int, height: int, width: int, seed: int) -> None:
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        image, truth = augment(pixels, Truth(pixels[..., 0] // 64 * np.int32(1)), variant, seed=seed, digest="d")
        assert image.shape == pixels.shape
        assert truth.labels is not None
        assert truth.labels.shape == (height, width)

    def test_the_mirror_image_of_an_object_is_another_object(self) -> None:
        labels = np.zeros((100, 100), np.int32)
        labels[2:9, 2:9], labels[50:60, 93:100] = 1, 2
        for variant in (8, 10, 11):
            _, truth = augment(np.zeros((100, 100, 1), np.uint8), Truth(labels), variant, seed=0, digest="d")
            assert truth.labels is not None
            for number in set(np.unique(truth.labels)) - {0}:
                rows, columns = np.nonzero(truth.labels == number)
                assert (np.ptp(rows) + 1) * (np.ptp(columns) + 1) == len(rows), "one rectangle, no two"


class TestTransform:
    def test_no_step_gives_the_image_as_it_is(self) -> None:
        (made,) = make([])
        pixels, labels = drawn()
        assert (made.suffix, made.group, made.box, made.variant) == ("", "images/a.png", None, None)
        np.testing.assert_array_equal(made.pixels, pixels)
        np.testing.assert_array_equal(made.truth.labels, labels)

    def test_tiles_are_crops_of_the_image_after_the_steps_before(self) -> None:
        before: list[dict[str, Any]] = [
            {"step": "clahe"},
            {"step": "resize", "scale": 0.5},
            {"step": "opening", "radius": 1},
        ]
        (whole,) = make(before)
        assert whole.truth.labels is not None
        for made in make([*before, {"step": "tile", "size": 20, "overlap": 4}]):
            assert made.box is not None
            assert made.group == "images/a.png"
            np.testing.assert_array_equal(made.pixels, whole.pixels[made.box.slices()])
            np.testing.assert_array_equal(made.truth.labels, whole.truth.labels[made.box.slices()])

    def test_steps_of_masks_work_in_the_order_given(self) -> None:
        first: dict[str, Any]
        second: dict[str, Any]
        first, second = {"step": "resize", "scale": 0.25}, {"step": "closing", "radius": 4}
        (one,), (other,) = make([first, second]), make([second, first])
        assert one.truth.labels is not None
        assert (one.truth.labels != other.truth.labels).any()

    @pytest.mark.parametrize(("part", "count"), [("train", 20), (None, 20), ("validation", 1), ("test", 1)])
    def test_only_what_trains_is_augmented(self, part: str | None, count: int) -> None:
        made = make([{"step": "augment"}], part)
        assert len(made) == count
        assert {each.split for each in made} == {part}
        assert len({each.suffix for each in made}) == count

    def test_the_tiles_of_one_image_vary_each_in_its_own_way(self) -> None:
        made = make([{"step": "tile", "size": 64}, {"step": "augment", "variants": 9}])
        assert [each.suffix for each in made[7:10]] == ["_r0_c0_v07", "_r0_c0_v08", "_r0_c1_v00"]

    def test_a_mask_of_another_size_is_refused(self) -> None:
        with pytest.raises(Rejected, match=r"images/a\.png: the image has 128 × 96 px but its mask 5 × 4 px"):
            make([], labels=np.zeros((4, 5), np.int32))

    def test_a_mask_that_a_step_cannot_take_is_refused_by_the_image_s_name(self) -> None:
        with pytest.raises(Rejected, match=r"images/a\.png: its mask numbers objects"):
            make([{"step": "map_classes", "mapping": {1: 1}}])
