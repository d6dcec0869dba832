"""Objects found block by block are those of the whole image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.imaging.drawing import Stain, draw_nuclei
from shared.imaging.objects.blocks import label_block, reach
from shared.imaging.objects.joining import NO_OBJECT, WHOLE, join
from shared.imaging.objects.rules import ObjectRules
from shared.imaging.objects.whole import label_whole
from shared.imaging.tiling import Box, Pixels
from tests.unit.objects.drawn import renumber
from tests.unit.objects.probabilities import label_each, label_in_blocks, object_rules, probability_planes

SIDES = st.sampled_from([5, 8, 13, 21, 40])
SHORT = ObjectRules(0.5, farthest=6)


@settings(deadline=None, max_examples=100)
@given(data=st.data(), planes=probability_planes(), side=SIDES)
def test_objects_of_blocks_are_those_of_the_whole_image(data: st.DataObject, planes: Pixels, side: int) -> None:
    rules = data.draw(object_rules(classes=planes.shape[0]))
    whole = label_whole(planes, rules)
    np.testing.assert_array_equal(renumber(label_in_blocks(planes, rules, side)), whole)


@pytest.mark.long
@settings(deadline=None, max_examples=25)
@given(data=st.data(), planes=probability_planes(longest=14), side=st.sampled_from([1, 2, 3]))
def test_blocks_of_a_few_pixels_are_no_exception(data: st.DataObject, planes: Pixels, side: int) -> None:
    rules = data.draw(object_rules(classes=planes.shape[0]))
    whole = label_whole(planes, rules)
    np.testing.assert_array_equal(renumber(label_in_blocks(planes, rules, side)), whole)


@pytest.mark.parametrize("stain", ["fluorescence", "histology"])
def test_drawn_nuclei_are_neither_cut_nor_doubled(stain: Stain) -> None:
    _, nuclei = draw_nuclei(300, 340, seed=5, stain=stain)
    planes = ((nuclei > 0) * np.uint8(255))[None]
    rules = ObjectRules(0.5, farthest=16, depth=0.5)
    np.testing.assert_array_equal(renumber(label_in_blocks(planes, rules, 64)), label_whole(planes, rules))


def test_a_block_reads_once_and_no_further_than_it_says() -> None:
    planes = np.full((1, 90, 70), 255, dtype=np.uint8)
    asked = list[Box]()

    def read(box: Box) -> Pixels:
        asked.append(box)
        return planes[:, *box.slices()]

    block = Box(40, 40, 50, 50)
    label_block(read, block, height=90, width=70, rules=SHORT)
    assert asked == [block.grow(reach(SHORT))]


def test_a_disc_larger_than_all_blocks_is_one_object() -> None:
    rows, columns = np.ogrid[:200, :200]
    planes = ((np.hypot(rows - 100, columns - 100) < 90) * np.uint8(255))[None]
    assert label_in_blocks(planes, SHORT, 24).max() == 1


def test_an_image_that_is_all_foreground_is_one_object() -> None:
    planes = np.full((1, 90, 70), 255, dtype=np.uint8)
    assert np.unique(label_in_blocks(planes, SHORT, 16)).tolist() == [1]


def test_two_discs_that_touch_on_a_seam_are_two_objects() -> None:
    rows, columns = np.ogrid[:64, :64]
    discs = [np.hypot(rows - 32, columns - middle) < 13 for middle in (20, 44)]
    planes = ((discs[0] | discs[1]) * np.uint8(255))[None]
    found = label_in_blocks(planes, ObjectRules(0.5, farthest=16), 32)
    assert found[32, 20] != found[32, 44]
    assert np.unique(found).size == 3


def test_a_piece_without_a_seed_belongs_to_the_object_that_has_one() -> None:
    planes = np.full((1, 8, 16), 150, dtype=np.uint8)
    planes[:, 2:6, 2:6] = 250
    rules = ObjectRules(0.5, seed_threshold=0.9, farthest=4, smoothing=0, depth=3)
    assert np.unique(label_in_blocks(planes, rules, 8)).tolist() == [1]


def test_pieces_of_what_nowhere_has_a_seed_are_no_object() -> None:
    planes = np.full((1, 8, 16), 150, dtype=np.uint8)
    rules = ObjectRules(0.5, seed_threshold=0.9, farthest=4)
    seams = [block.seams for _, block in label_each(planes, rules, 8)]
    groups = join(seams, rules).find_groups(0)
    assert set(groups[1:].tolist()) == {NO_OBJECT}


def test_an_object_that_no_other_block_holds_needs_no_group() -> None:
    planes = np.zeros((1, 8, 16), dtype=np.uint8)
    planes[:, 2:6, 2:6] = 255
    seams = [block.seams for _, block in label_each(planes, SHORT, 8)]
    assert join(seams, SHORT).find_groups(0).tolist() == [WHOLE, WHOLE]


def test_blocks_may_be_joined_in_any_order() -> None:
    planes = np.full((1, 16, 16), 255, dtype=np.uint8)
    seams = [block.seams for _, block in label_each(planes, SHORT, 8)]
    joined = join(seams[::-1], SHORT)
    assert (joined.groups, [set(joined.find_groups(index)[1:].tolist()) for index in range(4)]) == (1, [{0}] * 4)


def test_a_missing_block_is_noticed() -> None:
    planes = np.full((1, 16, 16), 255, dtype=np.uint8)
    seams = [block.seams for _, block in label_each(planes, SHORT, 8)]
    with pytest.raises(ValueError, match="do not fit"):
        join(seams[:3], SHORT)


def test_blocks_of_different_images_are_noticed() -> None:
    planes = np.full((1, 8, 16), 255, dtype=np.uint8)
    other = planes.copy()
    other[:, :4] = 0
    seams = [label_each(planes, SHORT, 8)[0][1].seams, label_each(other, SHORT, 8)[1][1].seams]
    with pytest.raises(ValueError, match="do not fit"):
        join(seams, SHORT)


def test_an_image_without_objects_has_nothing_to_join() -> None:
    joined = join([block.seams for _, block in label_each(np.zeros((1, 8, 16), dtype=np.uint8), SHORT, 8)], SHORT)
    assert (joined.groups, joined.find_groups(1).tolist()) == (0, [WHOLE])
