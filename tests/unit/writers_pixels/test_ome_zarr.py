"""The Zarr of an image: probabilities and labels in levels, as NGFF 0.5 and its readers want them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_zarr_models.v05 import Image, ImageLabel

from services.worker.writers.label_zarr import LabelMap
from services.worker.writers.multiscale import find_chunk
from services.worker.writers.probability import ProbabilityMap
from services.worker.writers.pyramid import halve_labels, halve_means
from shared.imaging.tiling import Box, plan_blocks
from tests.unit.writers_pixels.drawn import LENGTHS, NOISE, SIDES, draw_blobs, store, write_labels, write_probabilities

CLASSES = ("nucleus", "stroma")


def levels_of(root: Any) -> list[Any]:
    """The arrays in the order of the metadata."""
    return [root[dataset["path"]] for dataset in root.attrs["ome"]["multiscales"][0]["datasets"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    """A Zarr with both, of 1300 × 2100 px: four levels, three of them made by blocks."""
    probability = ProbabilityMap(CLASSES, 1300, 2100, 1024, 0.25)
    labels = LabelMap(1300, 2100, 1024, 0.25, probability.levels)
    objects = write_probabilities(probability, NOISE[:, :1300, :2100])
    return store(tmp_path_factory.mktemp("map"), objects | write_labels(labels, draw_blobs(1300, 2100)))


class TestLevels:
    @settings(max_examples=8, deadline=None)
    @given(height=LENGTHS, width=LENGTHS, side=SIDES)
    def test_of_probabilities_are_those_of_the_whole(
        self, height: int, width: int, side: int, tmp_path_factory: Any
    ) -> None:
        planes = NOISE[:, :height, :width]
        objects = write_probabilities(ProbabilityMap(CLASSES, height, width, side, None), planes)
        arrays = levels_of(zarr.open_group(store(tmp_path_factory.mktemp("map"), objects), mode="r"))
        for array in arrays:
            np.testing.assert_array_equal(array[:], planes)
            planes = halve_means(planes)
        assert max(arrays[-1].shape[1:]) <= 512

    @settings(max_examples=8, deadline=None)
    @given(height=LENGTHS, width=LENGTHS, side=SIDES, levels=st.integers(1, 5))
    def test_of_labels_are_those_of_the_whole(
        self, height: int, width: int, side: int, levels: int, tmp_path_factory: Any
    ) -> None:
        labels = draw_blobs(height, width)
        objects = write_labels(LabelMap(height, width, side, None, levels), labels)
        folder = store(tmp_path_factory.mktemp("map"), objects)
        arrays = levels_of(zarr.open_group(folder / "labels" / "objects", mode="r"))
        assert len(arrays) == levels
        for array in arrays:
            np.testing.assert_array_equal(array[:], labels)
            labels = halve_labels(labels)

    @given(side=st.sampled_from(range(512, 8192, 512)), size=st.integers(1, 40_000))
    def test_a_block_owns_whole_shards_of_whole_chunks(self, side: int, size: int) -> None:
        probability = ProbabilityMap(("cell",), size, size, side, None)
        described = probability.describe()
        for level in range(probability.coarse().source + 1):
            array = json.loads(described[f"{level}/zarr.json"])
            shard = array["chunk_grid"]["configuration"]["chunk_shape"][1]
            chunk = array["codecs"][0]["configuration"]["chunk_shape"][1]
            assert shard * 2**level == side
            assert shard >= 256
            assert shard % chunk == 0

    @pytest.mark.parametrize(("side", "chunk"), [(4096, 512), (256, 256), (768, 384), (960, 480)])
    def test_chunks_are_what_a_viewer_fetches_at_once(self, side: int, chunk: int) -> None:
        assert find_chunk(side) == chunk

    def test_a_large_image_has_few_pixels_beyond_the_blocks_levels(self) -> None:
        coarse = ProbabilityMap(("cell",), 45_000, 45_000, 4096, None).coarse()
        assert coarse.source == 4  # so that the rest begins with 1/1024 of the pixels

    def test_a_block_that_was_left_out_shows_nothing_in_the_coarse_levels_either(self, tmp_path: Path) -> None:
        probability = ProbabilityMap(("cell",), 512, 3072, 512, None)
        objects, coarse = probability.describe(), probability.coarse()
        for block in plan_blocks(512, 1536, side=512):  # the left half alone
            white = np.full((1, 512, 512), 255, dtype=np.uint8)
            objects |= probability.encode_levels(block, white)
            objects |= coarse.add(block, white[:, : 512 >> coarse.source, : 512 >> coarse.source])
        objects |= coarse.finish()
        for array in levels_of(zarr.open_group(store(tmp_path, objects), mode="r")):
            half = array.shape[2] // 2
            assert (array[..., :half] == 255).all()
            assert not array[..., half:].any()


class TestObjects:
    def test_a_block_without_objects_needs_none(self) -> None:
        label_map = LabelMap(2048, 2048, 512, None, 3)
        assert label_map.encode_levels(Box(0, 0, 512, 512), np.zeros((512, 512), dtype=np.uint32)) == {}
        assert not label_map.decode(Box(0, 0, 512, 512), {}).any()

    def test_a_block_has_the_keys_that_were_foretold(self) -> None:
        place = Box(1024, 2048, 2048, 3072)
        planes = np.zeros((2, 1024, 1024), dtype=np.uint8)
        probability, labels = ProbabilityMap(CLASSES, 4096, 4096, 1024, None), LabelMap(4096, 4096, 1024, None, 4)
        assert list(probability.encode_levels(place, planes)) == [
            probability.key_of(place, level=level) for level in range(3)
        ]
        assert list(labels.encode_levels(place, np.ones((1024, 1024), dtype=np.uint32))) == [
            labels.key_of(place, level=level) for level in range(3)
        ]

    def test_a_missing_shard_of_a_finer_level_is_not_taken_for_zeros(self) -> None:
        probability = ProbabilityMap(CLASSES, 1300, 2100, 1024, 0.25)
        with pytest.raises(KeyError, match="1/c/0/0/1"):
            probability.decode(Box(0, 512, 10, 520), {}, level=1)


class TestReaders:
    def test_the_validator_finds_an_image_of_that_many_levels(self, tmp_path: Path) -> None:
        probability = ProbabilityMap(CLASSES, 700, 1100, 1024, None)
        objects = write_probabilities(probability, NOISE[:, :700, :1100])
        image = Image.from_zarr(zarr.open_group(store(tmp_path, objects), mode="r"))
        (multiscale,) = image.ome_attributes.multiscales
        assert len(multiscale.datasets) == 3

    def test_the_image_leads_to_its_labels(self, folder: Path) -> None:
        # By hand: this version of the validator wants colours of a label image that it finds by way of its group.
        root: Any = zarr.open_group(folder, mode="r")
        assert root["labels"].attrs["ome"] == {"version": "0.5", "labels": ["objects"]}
        assert isinstance(root["labels/objects"], zarr.Group)

    def test_the_validator_finds_a_label_image_that_names_its_source(self, folder: Path) -> None:
        group = zarr.open_group(folder / "labels" / "objects", mode="r")
        found = ImageLabel.from_zarr(group).ome_attributes
        assert found.image_label is not None
        assert found.image_label.source is not None
        assert (folder / "labels" / "objects" / str(found.image_label.source.image)).resolve() == folder.resolve()

    def test_labels_have_as_many_levels_as_their_image(self, folder: Path) -> None:
        root: Any = zarr.open_group(folder, mode="r")
        assert len(levels_of(root)) == len(levels_of(root["labels/objects"]))

    def test_the_middles_of_pixels_lie_where_those_of_the_first_level_do(self, folder: Path) -> None:
        root: Any = zarr.open_group(folder, mode="r")
        for group in (root, root["labels/objects"]):
            for level, dataset in enumerate(group.attrs["ome"]["multiscales"][0]["datasets"]):
                scale, *shift = dataset["coordinateTransformations"]
                middle = shift[0]["translation"][-1] if shift else 0.0
                covered = np.arange(2**level) * 0.25  # µm, of the pixels of level 0 that its first one stands for
                assert middle == pytest.approx(covered.mean())
                assert scale["scale"][-1] == 0.25 * 2**level
