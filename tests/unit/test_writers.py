"""What a user takes home: mask, probability map, overlay."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from services.worker.writers.mask import TILE, encode_tiles, order_tiles, write_mask
from services.worker.writers.mask_part import MaskPart
from services.worker.writers.overlay import LARGEST_FACTOR, SMALL, draw_objects
from services.worker.writers.palette import colour_table
from services.worker.writers.probability import CHUNK, ProbabilityMap
from shared.imaging.tiling import Box, Pixels, plan_blocks

NOISE = np.random.default_rng(0).integers(0, 256, (3, 1600, 1600), dtype=np.uint8)


def write(path: Path, mask: Pixels, *, mpp: float | None = None) -> Path:
    write_mask(path, encode_tiles(mask), height=mask.shape[0], width=mask.shape[1], mpp=mpp)
    return path


class TestMask:
    @pytest.mark.parametrize("shape", [(1, 1), (1, 700), (512, 512), (513, 511), (1500, 1100)])
    def test_other_programs_read_the_classes_that_were_written(self, tmp_path: Path, shape: tuple[int, int]) -> None:
        mask = NOISE[0, : shape[0], : shape[1]] % 5
        path = write(tmp_path / "mask.tif", mask)
        np.testing.assert_array_equal(tifffile.imread(path), mask)
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image), mask)

    def test_eyes_see_the_colours_of_the_palette(self, tmp_path: Path) -> None:
        mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
        with Image.open(write(tmp_path / "mask.tif", mask)) as image:
            assert image.mode == "P"
            np.testing.assert_array_equal(np.asarray(image.convert("RGB")), colour_table()[mask])

    def test_it_is_tiled_and_compressed(self, tmp_path: Path) -> None:
        path = write(tmp_path / "mask.tif", np.zeros((1500, 1100), dtype=np.uint8))
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            assert (page.tilelength, page.tilewidth, page.compression) == (TILE, TILE, 8)
        assert path.stat().st_size < 10_000

    @pytest.mark.parametrize("mpp", [0.499, 0.25, 3.7, None])
    def test_the_scale_is_stored_if_it_is_known(self, tmp_path: Path, mpp: float | None) -> None:
        with tifffile.TiffFile(write(tmp_path / "mask.tif", NOISE[0, :9, :9], mpp=mpp)) as file:
            page = file.pages.first
            if mpp is None:
                assert page.resolutionunit == 1
            else:
                assert page.get_resolution(unit="MICROMETER") == pytest.approx((1 / mpp, 1 / mpp))


class TestPalette:
    def test_background_is_black_and_neighbouring_classes_differ(self) -> None:
        table = colour_table()
        assert (table.shape, table.dtype.name) == ((256, 3), "uint8")
        assert table[0].tolist() == [0, 0, 0]
        assert not (table[1:] == 0).all(axis=1).any()
        assert (table[1:] != table[:-1]).any(axis=1).all()


def draw_map(data: st.DataObject) -> ProbabilityMap:
    return ProbabilityMap(
        classes=tuple("abc"[: data.draw(st.integers(1, 3))]),
        height=data.draw(st.integers(1, 1600)),
        width=data.draw(st.integers(1, 1600)),
        side=CHUNK * data.draw(st.integers(1, 3)),
        mpp=data.draw(st.none() | st.floats(0.1, 10)),
    )


def encode_all(probability: ProbabilityMap, planes: Pixels) -> dict[str, bytes]:
    blocks = plan_blocks(probability.height, probability.width, side=probability.side)
    levels = (probability.encode_levels(block, planes[:, *block.slices()]) for block in blocks)
    return dict(next(iter(shards.items())) for shards in levels)  # of full resolution


def planes_of(probability: ProbabilityMap) -> Pixels:
    return NOISE[: len(probability.classes), : probability.height, : probability.width]


class TestProbability:
    @settings(max_examples=20, deadline=None)
    @given(data=st.data())
    def test_what_was_encoded_is_decoded(self, data: st.DataObject) -> None:
        probability = draw_map(data)
        planes = planes_of(probability)
        shards = encode_all(probability, planes)
        everything = Box(0, 0, probability.height, probability.width)
        np.testing.assert_array_equal(probability.decode(everything, shards), planes)
        top = data.draw(st.integers(0, probability.height - 1))
        place = Box(top, 0, data.draw(st.integers(top + 1, probability.height)), probability.width)
        np.testing.assert_array_equal(probability.decode(place, shards), planes[:, *place.slices()])

    @settings(max_examples=20, deadline=None)
    @given(data=st.data())
    def test_every_block_has_the_key_that_was_foretold(self, data: st.DataObject) -> None:
        probability = draw_map(data)
        empty = np.zeros_like(planes_of(probability))  # a shard of nothing but zeros is an object, too
        blocks = list(plan_blocks(probability.height, probability.width, side=probability.side))
        keys = [next(iter(probability.encode_levels(block, empty[:, *block.slices()]))) for block in blocks]
        assert keys == [probability.key_of(block) for block in blocks]
        assert len(set(keys)) == len(blocks)

    def test_the_same_block_has_the_same_bytes(self) -> None:
        probability = ProbabilityMap(("cell",), 600, 600, 512, None)
        block = Box(0, 512, 512, 600)
        planes = NOISE[:1, *block.slices()]
        assert probability.encode_levels(block, planes) == probability.encode_levels(block, planes)

    def test_a_missing_shard_is_not_taken_for_zeros(self) -> None:
        probability = ProbabilityMap(("cell",), 600, 600, 512, None)
        shards = encode_all(probability, NOISE[:1, :600, :600])
        del shards["0/c/0/1/0"]
        assert probability.decode(Box(0, 0, 512, 600), shards).shape == (1, 512, 600)
        with pytest.raises(KeyError, match="0/c/0/1/0"):
            probability.decode(Box(500, 0, 600, 600), shards)

    @settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_the_objects_in_a_folder_are_a_zarr(self, data: st.DataObject, tmp_path_factory: Any) -> None:
        probability = draw_map(data)
        planes = planes_of(probability)
        folder = tmp_path_factory.mktemp("map")
        for key, body in {**probability.describe(), **encode_all(probability, planes)}.items():
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(body)
        array: Any = zarr.open_group(folder, mode="r")["0"]
        np.testing.assert_array_equal(array[:], planes)
        assert array.chunks == (1, CHUNK, CHUNK)
        assert array.shards == (len(probability.classes), probability.side, probability.side)

    @pytest.mark.parametrize("mpp", [None, 0.499])
    def test_the_metadata_are_those_of_ngff_0_5(self, tmp_path: Path, mpp: float | None) -> None:
        probability = ProbabilityMap(("nucleus", "stroma"), 700, 900, 512, mpp)
        for key, body in probability.describe().items():
            (tmp_path / key).parent.mkdir(exist_ok=True)
            (tmp_path / key).write_bytes(body)
        group = zarr.open_group(tmp_path, mode="r")
        check_ngff(group)
        ome: Any = group.attrs["ome"]
        first, second = ome["multiscales"][0]["datasets"]
        (scale,) = first["coordinateTransformations"]
        assert scale == {"type": "scale", "scale": [1.0, mpp or 1.0, mpp or 1.0]}
        unit = mpp or 1.0
        assert second["coordinateTransformations"] == [
            {"type": "scale", "scale": [1.0, 2 * unit, 2 * unit]},
            {"type": "translation", "translation": [0.0, unit / 2, unit / 2]},
        ]
        assert [channel["label"] for channel in ome["omero"]["channels"]] == ["nucleus", "stroma"]


def check_ngff(group: zarr.Group) -> None:
    """What the specification says with MUST (ngff.openmicroscopy.org/0.5, "multiscales" and "omero" metadata)."""
    assert group.metadata.zarr_format == 3
    ome: Any = group.attrs["ome"]
    assert ome["version"] == "0.5"
    for multiscale in ome["multiscales"]:
        axes = multiscale["axes"]
        assert len({axis["name"] for axis in axes}) == len(axes)
        assert [axis["type"] for axis in axes] == ["channel", "space", "space"]
        for dataset in multiscale["datasets"]:
            array: Any = group[dataset["path"]]
            assert array.ndim == len(axes)
            assert array.metadata.dimension_names == tuple(axis["name"] for axis in axes)
            scale, *translation = dataset["coordinateTransformations"]
            assert scale["type"] == "scale"
            assert len(scale["scale"]) == len(axes)
            assert [each["type"] for each in translation] in ([], ["translation"])
            assert all(len(each["translation"]) == len(axes) for each in translation)
    for channel in ome["omero"]["channels"]:
        assert len(bytes.fromhex(channel["color"])) == 3
        assert {"start", "end", "min", "max"} <= channel["window"].keys()


def drawn(overview: Pixels, labels: Pixels, classes: list[int]) -> Pixels:
    with Image.open(io.BytesIO(draw_objects(overview, labels, np.array(classes, dtype=np.uint8)))) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


class TestOverlay:
    def test_the_outline_of_a_cell_is_drawn_in_the_colour_of_its_class(self) -> None:
        labels = np.zeros((800, 900), dtype=np.uint8)
        labels[100:200, 300:400] = 1
        picture = drawn(np.full((800, 900, 3), 90, dtype=np.uint8), labels, [0, 2])
        expected = np.full((800, 900, 3), 90, dtype=np.uint8)
        expected[100:200, 300:400] = colour_table()[2]
        expected[101:199, 301:399] = 90
        np.testing.assert_array_equal(picture, expected)

    def test_a_small_image_is_enlarged_and_its_outlines_are_two_pixels_wide(self) -> None:
        labels = np.zeros((100, 200), dtype=np.uint8)
        labels[40:50, 40:50] = 1
        picture = drawn(np.zeros((100, 200, 3), dtype=np.uint8), labels, [0, 1])
        assert picture.shape == (300, 600, 3)  # the first whole factor that reaches 512 px
        assert (picture > 0).any(axis=2).sum() == (4 * 30 - 4) + (4 * 28 - 4)

    @pytest.mark.parametrize(
        ("shape", "factor"), [((1, 1), LARGEST_FACTOR), ((SMALL - 1, 5), 2), ((SMALL, 5), 1), ((5, SMALL + 1), 1)]
    )
    def test_the_factor_is_whole_and_bounded(self, shape: tuple[int, int], factor: int) -> None:
        picture = drawn(np.zeros((*shape, 3), dtype=np.uint8), np.ones(shape, dtype=np.uint8), [0, 1])
        assert picture.shape == (shape[0] * factor, shape[1] * factor, 3)
        assert not picture.any()


def find_parts(mask: Pixels, side: int) -> list[tuple[Box, MaskPart]]:
    """The parts, as they are read back, of a mask that is worked on in blocks."""
    blocks = plan_blocks(*mask.shape, side=side)
    return [(block, MaskPart.from_bytes(MaskPart.of(mask[block.slices()]).to_bytes())) for block in blocks]


class TestMaskParts:
    @settings(deadline=None)
    @given(height=st.integers(1, 90), width=st.integers(1, 90), side=st.integers(1, 100))
    def test_together_they_know_how_much_is_foreground(self, height: int, width: int, side: int) -> None:
        mask = NOISE[0, :height, :width] % 3
        assert sum(part.foreground for _, part in find_parts(mask, side)) == np.count_nonzero(mask)

    @settings(max_examples=10, deadline=None)
    @given(height=st.integers(1, 1600), width=st.integers(1, 1600), blocks=st.integers(1, 3))
    def test_their_tiles_in_order_are_the_masks(self, height: int, width: int, blocks: int) -> None:
        mask = NOISE[0, :height, :width] % 5
        parts = ((block, part.tiles) for block, part in find_parts(mask, TILE * blocks))
        assert list(order_tiles(parts)) == list(encode_tiles(mask))
