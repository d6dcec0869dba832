"""The numbers in masks, stacks and arrays: read, refused, written."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from shared.annotations import (
    count_pages,
    read_plane,
    read_values,
    suffix_of,
    write_classes,
    write_image,
    write_labels,
)
from shared.errors import Rejected
from shared.slides import open_slide
from tests.mask_files import blobs, npy, png, tiff
from tests.slide_files import lying_png, read_all, retag

VALUES = np.arange(24, dtype=np.uint8).reshape(4, 6)
BOTH = VALUES % 2
SMALL = arrays.array_shapes(min_dims=2, max_dims=2, max_side=12)


def palette() -> Image.Image:
    image = Image.fromarray(VALUES)
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes(), "RGB")
    return image


def in_colour(channels: int) -> NDArray[np.uint8]:
    pixels = np.repeat(VALUES[:, :, None], channels, axis=2)
    pixels[:, :, 3:] = 255
    return pixels


def with_alpha() -> Image.Image:
    return Image.merge("LA", [Image.fromarray(VALUES), Image.fromarray(255 - VALUES)])


SAVED: dict[str, tuple[bytes, NDArray[Any]]] = {
    "8 bits": (png(Image.fromarray(VALUES)), VALUES),
    "16 bits": (bytes(imagecodecs.png_encode(VALUES.astype(np.uint16) * 999)), VALUES.astype(np.int64) * 999),
    "1 bit": (png(Image.fromarray(BOTH * 255).convert("1")), BOTH),
    "a palette": (png(palette()), VALUES),
    "RGB": (png(Image.fromarray(in_colour(3))), VALUES),
    "RGBA": (png(Image.fromarray(in_colour(4))), VALUES),
    "grey with alpha": (png(with_alpha()), VALUES),
    "TIFF": (tiff(VALUES), VALUES),
    "TIFF of bool": (tiff(BOTH.astype(bool)), BOTH),
    "TIFF of int32": (tiff(VALUES.astype(np.int32) - 3), VALUES.astype(np.int64) - 3),
    "TIFF of whole floats": (tiff(VALUES.astype(np.float32)), VALUES),
    "TIFF of one page": (tiff(VALUES[None, None]), VALUES),
    "deflated TIFF in colour": (tiff(in_colour(3), compression="zlib", photometric="rgb"), VALUES),
    "planar TIFF": (tiff(np.moveaxis(in_colour(3), 2, 0), photometric="rgb", planarconfig="separate"), VALUES),
    "big-endian TIFF": (tiff(VALUES.astype(">u2"), byteorder=">"), VALUES),
    "array": (npy(VALUES.astype(np.int64)), VALUES),
    "array of floats": (npy(VALUES.astype(np.float64)), VALUES),
}


@pytest.mark.parametrize("kind", SAVED)
def test_the_numbers_are_those_that_were_saved(tmp_path: Path, kind: str) -> None:
    content, expected = SAVED[kind]
    (tmp_path / "mask").write_bytes(content)
    found = read_values(tmp_path / "mask", "mask")
    assert found.dtype.kind in "bui"
    np.testing.assert_array_equal(found, expected)


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(VALUES).save(file, "JPEG")
    return file.getvalue()


REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "no readable PNG or TIFF"),
    "text": (b"no image at all", "no readable PNG or TIFF .*export it again"),
    "half a PNG": (SAVED["16 bits"][0][:60], "no readable PNG or TIFF"),
    "half a TIFF": (tiff(np.zeros((99, 99), np.uint8))[:5000], "no readable PNG or TIFF"),
    "half an array": (npy(VALUES)[:140], "no readable array"),
    "an array without the end of its header": (npy(VALUES).replace(b"), }", b"(((("), "no readable array"),
    "an array of objects": (npy(np.array([{}, {}], dtype=object)), "no readable array"),
    "a JPEG": (jpeg(), "is a JPEG, which alters the values"),
    "colours": (png(Image.fromarray(np.dstack([VALUES, VALUES, VALUES + 1]))), "one whole number per pixel"),
    "fractions": (tiff(VALUES.astype(np.float32) / 2), "one whole number per pixel"),
    "no numbers": (tiff(np.full((4, 6), np.nan, np.float32)), "one whole number per pixel"),
    "a stack": (tiff(np.zeros((7, 4, 6), np.uint8), photometric="minisblack"), "7 planes, where one is asked for"),
    "a TIFF with losses": (tiff(np.zeros((16, 16), np.uint8), compression="jpeg"), "JPEG may alter values"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_mask_is_refused_by_name_cause_and_mend(tmp_path: Path, kind: str) -> None:
    content, cause = REFUSED[kind]
    (tmp_path / "sent").write_bytes(content)
    with pytest.raises(Rejected, match=rf"^my mask\.png: .*{cause}"):
        read_values(tmp_path / "sent", "my mask.png")


def announcing_png(path: Path) -> None:
    lying_png(path, width=50_000, height=50_000)


def announcing_tiff(path: Path) -> None:
    path.write_bytes(tiff(VALUES, compression="zlib"))
    retag(path, ImageWidth=60_000, ImageLength=60_000, RowsPerStrip=60_000)


def announcing_tiles(path: Path) -> None:
    path.write_bytes(tiff(np.zeros((32, 32), np.uint8), tile=(16, 16), compression="zlib"))
    retag(path, TileWidth=65_520, TileLength=65_520)


def announcing_array(path: Path) -> None:
    content = npy(np.zeros((10, 10), np.uint8))
    longer = content.replace(b"(10, 10), }     ", b"(10000, 10000),}")
    assert len(longer) == len(content)
    path.write_bytes(longer)


@pytest.mark.parametrize("write", [announcing_png, announcing_tiff, announcing_tiles, announcing_array])
def test_a_header_that_announces_too_much_is_refused_before_memory_is_taken(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path / "bomb")
    with pytest.raises(Rejected, match="bomb: "):
        read_values(tmp_path / "bomb", "bomb", most=100_000_000)


# Stacks and arrays


STACK = np.random.default_rng(1).integers(0, 60_000, (5, 20, 30), dtype=np.uint16)


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "minisblack"},
        {"photometric": "minisblack", "compression": "zlib"},
        {"photometric": "minisblack", "tile": (16, 16), "compression": "lzw"},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"ome": True, "metadata": {"axes": "TYX"}},
    ],
)
def test_a_page_of_a_stack_is_read_by_its_number(tmp_path: Path, options: dict[str, Any]) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", STACK, **options)
    assert count_pages(tmp_path / "stack.tif", "stack.tif") == 5
    for page in range(5):
        np.testing.assert_array_equal(read_plane(tmp_path / "stack.tif", page), STACK[page])


def test_a_page_in_colour_has_its_channels_last(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", compression="zlib")
    np.testing.assert_array_equal(read_plane(tmp_path / "a.tif", 2), pixels[2])


@pytest.mark.parametrize("shape", [(5, 20, 30), (5, 20, 30, 3)])
def test_an_image_of_an_array_is_read_by_its_number(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(3).random(shape) * 255
    np.save(tmp_path / "images.npy", array)
    assert count_pages(tmp_path / "images.npy", "images.npy") == 5
    np.testing.assert_array_equal(read_plane(tmp_path / "images.npy", 3), array[3])


@pytest.mark.parametrize("name", ["a.tif", "a.npy"])
def test_a_page_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes((npy if name.endswith("npy") else tiff)(STACK))
    with pytest.raises(Rejected, match=f"{name}: there is no plane 5, the file has 5"):
        read_plane(tmp_path / name, 5)


def test_a_single_image_is_one_page(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK[0])
    np.save(tmp_path / "a.npy", np.zeros((20, 30, 3)))
    assert count_pages(tmp_path / "a.tif", "a") == count_pages(tmp_path / "a.npy", "a") == 1


# Written


SIZES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=300)
LABELS = arrays.arrays(np.int32, SIZES, elements=st.integers(0, 2**31 - 1), fill=st.just(0))


@settings(deadline=None)
@given(labels=LABELS)
def test_labels_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, labels: NDArray[np.int32]
) -> None:
    path = tmp_path_factory.mktemp("labels") / "labels.tif"
    path.write_bytes(write_labels(labels))
    found = read_values(path, "labels.tif")
    np.testing.assert_array_equal(found, labels)
    assert found.dtype == (np.uint16 if labels.max() < 2**16 else np.uint32)


def test_classes_are_read_as_they_were_written(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(write_classes(blobs(9)))
    np.testing.assert_array_equal(read_values(tmp_path / "a.tif", "a.tif"), blobs(9))
    assert write_classes(blobs(9)) == write_classes(blobs(9))


@pytest.mark.parametrize(
    ("plane", "suffix"),
    [
        (STACK[0], ".png"),
        (in_colour(3), ".png"),
        (in_colour(3).astype(np.float64), ".png"),
        (BOTH.astype(bool), ".png"),
        (STACK[0].astype(np.float64) / 7, ".tif"),
        (STACK[0].astype(np.int64) * 9, ".tif"),
        (np.repeat(STACK[0][:, :, None], 5, axis=2), ".tif"),
    ],
)
def test_a_plane_is_written_so_that_the_readers_of_images_take_it(
    tmp_path: Path, plane: NDArray[Any], suffix: str
) -> None:
    content = write_image(plane)
    assert suffix_of(content) == suffix
    path = tmp_path / f"image{suffix}"
    path.write_bytes(content)
    with open_slide(path) as slide:
        assert (slide.height, slide.width) == plane.shape[:2]
        if plane.dtype == np.float64 and plane.ndim == 3:
            np.testing.assert_array_equal(read_all(slide), plane)


@pytest.mark.parametrize("labels", [np.full((2, 2), -1), np.zeros((2, 2, 2), int), np.zeros((2, 2))])
def test_what_are_no_labels_is_not_written(labels: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="no labels"):
        write_labels(labels)
