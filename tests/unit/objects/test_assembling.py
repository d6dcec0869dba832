"""The objects of an image, whatever blocks it is cut into."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from shared.imaging.objects.assembling import Assembly
from shared.imaging.objects.blocks import label_block
from shared.imaging.objects.measuring import Legend
from shared.imaging.objects.pieces import measure_pieces
from shared.imaging.objects.rules import ObjectRules
from shared.imaging.objects.table import ObjectTable
from shared.imaging.objects.whole import label_whole
from shared.imaging.tiling import Box, Pixels, plan_blocks

LEGEND = Legend(classes=("background", "nucleus"), channels=("grey",), mpp=0.5)
Labels = NDArray[np.uint32]


def draw_blobs(height: int, width: int, *, size: float, seed: int) -> Pixels:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(height, width)), size)
    return np.where(noise > noise.std() * 0.6, 200, 20).astype(np.uint8)[None]


def assemble(planes: Pixels, rules: ObjectRules, *, side: int) -> tuple[Labels, list[ObjectTable]]:
    _, height, width = planes.shape
    grey = np.random.default_rng(0).integers(0, 60_000, (height, width, 1)).astype(np.uint16)
    blocks = list(plan_blocks(height, width, side=side))
    found = [
        label_block(lambda box: planes[:, *box.slices()], box, height=height, width=width, rules=rules)
        for box in blocks
    ]
    pieces = [
        measure_pieces(each.labels, each.classes, each.planes, grey[box.slices()], box)
        for each, box in zip(found, blocks, strict=True)
    ]
    assembly = Assembly(blocks, [each.seams for each in found], pieces.__getitem__, rules)
    labels, tables = np.zeros((height, width), np.uint32), []
    for number, box in enumerate(blocks):
        table, numbers = assembly.describe(number, LEGEND)
        labels[box.slices()] = numbers[found[number].labels]
        tables.append(table)
    assert sum(map(len, tables)) == len(assembly)
    return labels, tables


def join_columns(tables: list[ObjectTable]) -> dict[str, NDArray[np.generic]]:
    return {name: np.concatenate([table.columns[name] for table in tables]) for name in tables[0].columns}


images = st.builds(
    draw_blobs, st.integers(1, 90), st.integers(1, 90), size=st.sampled_from([0.6, 1.5, 4]), seed=st.integers(0, 99)
)
rules = st.builds(
    ObjectRules,
    threshold=st.just(0.5),
    method=st.sampled_from(["watershed", "components"]),
    min_area=st.sampled_from([1, 20]),
    max_area=st.sampled_from([None, 150]),
)


@given(images, rules, st.sampled_from([8, 16, 32, 64]))
def test_every_cut_gives_the_objects_of_the_whole_with_the_same_figures(
    planes: Pixels, rules: ObjectRules, side: int
) -> None:
    labels, tables = assemble(planes, rules, side=side)
    whole, (expected,) = assemble(planes, rules, side=1000)
    found = join_columns(tables)
    first = np.array([np.flatnonzero(labels == label)[0] for label in found["label"]], dtype=int)
    order = np.argsort(first)  # of the whole image objects are numbered by their first pixels
    renumbered = np.zeros(len(first) + 1, dtype=np.uint32)
    renumbered[found["label"][order]] = np.arange(1, len(first) + 1)
    assert np.array_equal(renumbered[labels], whole)
    for name in set(found) - {"label"}:
        assert np.array_equal(found[name][order], expected.columns[name]) or np.allclose(
            found[name][order].astype(float), expected.columns[name].astype(float), rtol=1e-6, equal_nan=True
        ), name


@given(images, rules)
def test_a_single_block_gives_the_labels_of_the_whole(planes: Pixels, rules: ObjectRules) -> None:
    labels, _ = assemble(planes, rules, side=1000)
    assert np.array_equal(labels, label_whole(planes, rules))


@pytest.mark.long
@given(images, rules, st.sampled_from([8, 32]))
def test_labels_count_from_one_without_gaps_and_are_those_of_the_pixels(
    planes: Pixels, rules: ObjectRules, side: int
) -> None:
    labels, tables = assemble(planes, rules, side=side)
    found = join_columns(tables)
    assert found["label"].tolist() == list(range(1, len(found["label"]) + 1))
    areas = np.bincount(labels.ravel(), minlength=len(found["label"]) + 1)[1:]
    assert areas.tolist() == found["area_px2"].tolist()


@pytest.mark.long
@given(images, rules)
def test_objects_are_the_same_however_soon_their_pieces_are_merged(planes: Pixels, rules: ObjectRules) -> None:
    labels, tables = assemble(planes, rules, side=8)
    with patch("shared.imaging.objects.assembling.WAITING", 1):
        sooner, described = assemble(planes, rules, side=8)
    assert np.array_equal(sooner, labels)
    columns = join_columns(described)
    for name, column in join_columns(tables).items():
        assert columns[name].tolist() == column.tolist() or np.array_equal(columns[name], column, equal_nan=True), name


def test_an_object_belongs_to_the_block_of_its_first_pixel() -> None:
    planes = np.zeros((1, 64, 64), np.uint8)
    planes[0, 30:60, 30:60] = 255
    _, tables = assemble(planes, ObjectRules(threshold=0.5, method="components"), side=32)
    assert [len(table) for table in tables] == [1, 0, 0, 0]
    assert Box(*(int(tables[0].columns[f"{edge}_px"][0]) for edge in ("top", "left", "bottom", "right"))) == Box(
        30, 30, 60, 60
    )
