"""OME-Zarrs of all kinds: what they show, and what is refused before it does harm."""

import os
import re
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numcodecs  # type: ignore[import-untyped]
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

from shared.imaging.normalisation import Window
from shared.imaging.tiling import Box
from shared.slides import open_slide
from shared.slides.inflating import CODECS, inflate
from shared.slides.zarr_arrays import ChunkedArray
from shared.slides.zarr_files import FolderFiles, is_safe
from shared.slides.zarr_images import read_image
from shared.slides.zarr_metadata import describe
from tests.slide_files import NOISE, read_all, refusal
from tests.zarr_images import change, write_metadata, write_ome_zarr, zipped

PLANES = NOISE.transpose(2, 0, 1).copy()  # (3, 200, 150)
NUMBERS = np.random.default_rng(1).integers(0, 60_000, (3, 50, 70)).astype(np.uint16)
PACKINGS: dict[str, dict[str, Any]] = {
    "2, plain": {"zarr_format": 2, "compressors": None},
    "2, blosc": {"zarr_format": 2, "compressors": numcodecs.Blosc(cname="lz4", shuffle=2)},
    "2, zlib": {"zarr_format": 2, "compressors": numcodecs.Zlib()},
    "2, gzip": {"zarr_format": 2, "compressors": numcodecs.GZip()},
    "2, zstd": {"zarr_format": 2, "compressors": numcodecs.Zstd()},
    "2, lz4": {"zarr_format": 2, "compressors": numcodecs.LZ4()},
    "2, bz2": {"zarr_format": 2, "compressors": numcodecs.BZ2()},
    "2, lzma": {"zarr_format": 2, "compressors": numcodecs.LZMA()},
    "2, columns first": {"zarr_format": 2, "compressors": None, "order": "F"},
    "3, plain": {"zarr_format": 3, "compressors": None},
    "3, blosc": {"zarr_format": 3, "compressors": [BloscCodec(cname="zstd")]},
    "3, gzip": {"zarr_format": 3, "compressors": [GzipCodec()]},
    "3, zstd and a checksum": {"zarr_format": 3, "compressors": [ZstdCodec(), Crc32cCodec()]},
    "3, axes turned": {"zarr_format": 3, "filters": [TransposeCodec(order=(2, 0, 1))]},
    "3, shards": {"zarr_format": 3, "shards": (4, 32, 48)},
    "3, shards of gzip": {"zarr_format": 3, "shards": (4, 32, 48), "compressors": [GzipCodec()]},
}
TYPES = ["u1", "u2", ">u2", "i4", "f4", ">f8", "bool"]


class TestNumbers:
    @pytest.mark.parametrize("number", TYPES)
    @pytest.mark.parametrize("packing", PACKINGS)
    def test_they_are_those_that_zarr_reads(self, tmp_path: Path, packing: str, number: str) -> None:
        """The last chunks are left out: the fill value stands in for them."""
        options: dict[str, Any] = {"fill_value": 1, "chunks": (2, 16, 24)} | PACKINGS[packing]
        array = zarr.create_array(store=str(tmp_path / "0"), shape=NUMBERS.shape, dtype=number, **options)
        array[:, :40, :50] = NUMBERS[:, :40, :50].astype(number)
        expected = np.asarray(zarr.open_array(str(tmp_path / "0"), mode="r")[:])
        read = opened(tmp_path).read
        np.testing.assert_array_equal(read((0, 0, 0), NUMBERS.shape), expected)
        np.testing.assert_array_equal(read((1, 5, 7), (3, 44, 61)), expected[1:3, 5:44, 7:61])
        assert read((0, 0, 0), (1, 1, 1)).dtype == expected.dtype.newbyteorder("=")

    @pytest.mark.parametrize(("fill", "expected"), [("NaN", np.nan), (None, 0), (-1.5, -1.5), ("-Infinity", -np.inf)])
    def test_a_fill_value_of_any_kind_is_understood(self, tmp_path: Path, fill: Any, expected: float) -> None:
        zarr.create_array(store=str(tmp_path / "0"), shape=(4, 4), chunks=(2, 2), dtype="f4", zarr_format=2)
        change(tmp_path / "0" / ".zarray", lambda document: document.update(fill_value=fill))
        np.testing.assert_array_equal(opened(tmp_path).read((0, 0), (4, 4)), np.full((4, 4), expected, np.float32))


def opened(folder: Path) -> ChunkedArray:
    files = FolderFiles(folder)
    return ChunkedArray(files, "0", describe(files, "0"))


class TestInflating:
    @pytest.mark.parametrize("codec", sorted(set(CODECS) - {"crc32c"}))
    @settings(max_examples=20)
    @given(content=st.binary(min_size=1, max_size=300))
    def test_no_stream_gives_more_than_is_allowed(self, codec: str, content: bytes) -> None:
        packed = bytes(numcodecs.get_codec({"id": codec}).encode(content))
        assert inflate(codec, packed, len(content)) == content
        with pytest.raises((ValueError, RuntimeError)):
            inflate(codec, packed, len(content) - 1)

    @pytest.mark.parametrize("codec", ["zlib", "gzip", "bz2", "lzma"])
    def test_a_stream_that_is_cut_off_is_an_error(self, codec: str) -> None:
        packed = bytes(numcodecs.get_codec({"id": codec}).encode(bytes(range(200))))
        with pytest.raises((ValueError, EOFError), match="cut off"):
            inflate(codec, packed[: len(packed) // 2], 200)

    @pytest.mark.parametrize("codec", sorted(set(CODECS) - {"crc32c"}))
    def test_flipped_bits_do_the_process_no_harm(self, codec: str) -> None:
        """The decoder that Zarr's own reader has for Blosc ends the process within some of these."""
        command = [sys.executable, "-c", FLIPPED_BITS, codec]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr

    def test_a_wrong_checksum_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="checksum"):
            inflate("crc32c", b"contents" + bytes(4), 100)


OMERO = {
    "channels": [
        {"label": "DAPI", "color": "0000FF", "window": {"start": 100, "end": 1100, "min": 0, "max": 65535}},
        {"label": "GFP", "color": "00FF00"},
    ]
}
STAINS = np.stack([np.full((30, 40), 600), np.arange(1200).reshape(30, 40)]).astype(np.uint16)


def stained(folder: Path, **options: Any) -> Path:
    return write_ome_zarr(folder, STAINS, omero=OMERO, **options)


class TestWhatItShows:
    def test_stains_are_shown_as_red_and_green_each_through_its_window(self, tmp_path: Path) -> None:
        with open_slide(stained(tmp_path / "a.ome.zarr")) as slide:
            pixels = read_all(slide)
            assert slide.channels == ("DAPI", "GFP")
            assert slide.dtype == "uint16"
            assert isinstance(slide.window, tuple)
            assert slide.window[0] == Window(100, 1100)
        assert (pixels[:, :, 0] == 128).all()
        assert pixels[:, :, 1].min() == 0
        assert pixels[:, :, 1].max() == 255
        assert not pixels[:, :, 2].any()

    def test_every_channel_can_be_read_by_itself(self, tmp_path: Path) -> None:
        five = np.stack([np.full((30, 40), value) for value in range(5)]).astype(np.uint8)
        with open_slide(write_ome_zarr(tmp_path / "a.ome.zarr", five)) as slide:
            assert slide.read_channels(Box(0, 0, 1, 1)).tolist() == [[[0, 1, 2, 3, 4]]]
            assert slide.read(Box(0, 0, 1, 1)).tolist() == [[[0, 1, 2]]]
            assert slide.channels == tuple(f"channel {number}" for number in range(1, 6))

    @pytest.mark.parametrize(
        ("unit", "mpp"), [("nanometer", 0.5), ("micrometer", None), ("furlong", None), (None, None)]
    )
    def test_the_scale_follows_its_unit(self, tmp_path: Path, unit: str | None, mpp: float | None) -> None:
        """500 µm per pixel are no microscope's."""
        folder = write_ome_zarr(tmp_path / "a.ome.zarr", PLANES)

        def rename(about: dict[str, Any]) -> None:
            for axis in about["multiscales"][0]["axes"]:
                axis["unit"] = unit

        change(folder / ".zattrs", rename)
        with open_slide(folder) as slide:
            assert slide.mpp == mpp

    def test_a_scale_of_the_whole_multiplies_that_of_the_level(self, tmp_path: Path) -> None:
        folder = write_ome_zarr(tmp_path / "a.ome.zarr", PLANES)
        whole = [{"type": "scale", "scale": [1, 1, 1, 2, 2]}]
        change(folder / ".zattrs", lambda about: about["multiscales"][0].update(coordinateTransformations=whole))
        with open_slide(folder) as slide:
            assert slide.mpp == 1.0

    def test_an_old_one_that_names_no_axes_is_tczyx(self, tmp_path: Path) -> None:
        folder = write_ome_zarr(tmp_path / "a.ome.zarr", PLANES)
        change(folder / ".zattrs", lambda about: about["multiscales"][0].pop("axes"))
        with open_slide(folder) as slide:
            np.testing.assert_array_equal(read_all(slide), NOISE)
            assert slide.mpp is None

    def test_a_level_that_does_not_show_the_same_is_left_out(self, tmp_path: Path) -> None:
        folder = write_ome_zarr(tmp_path / "a.ome.zarr", PLANES, factors=(1, 2))
        write_ome_zarr(tmp_path / "b.ome.zarr", PLANES[:, :40])
        (folder / "1").rename(folder / "2")
        (tmp_path / "b.ome.zarr" / "0").rename(folder / "1")
        with open_slide(folder) as slide:
            assert len(slide.levels) == 1

    def test_a_folder_around_it_makes_no_difference(self, tmp_path: Path) -> None:
        write_ome_zarr(tmp_path / "image" / "a.ome.zarr", PLANES)
        with open_slide(tmp_path / "image") as slide:
            np.testing.assert_array_equal(read_all(slide), NOISE)

    def test_labels_beside_it_are_images_of_their_own(self, tmp_path: Path) -> None:
        folder = write_ome_zarr(tmp_path / "a.ome.zarr", PLANES)
        labels = NUMBERS[:1].astype(np.int32)
        write_ome_zarr(folder / "labels" / "nuclei", labels)
        files = FolderFiles(folder)
        image = read_image(files, "labels/nuclei")
        np.testing.assert_array_equal(image.read(Box(0, 0, 50, 70), 0, (0, 1))[:, :, 0], labels[0])
        with open_slide(folder) as slide:
            np.testing.assert_array_equal(read_all(slide), NOISE)

    def test_it_can_lie_in_a_zip_with_or_without_a_folder_around_it(self, tmp_path: Path) -> None:
        folder = write_ome_zarr(tmp_path / "a.ome.zarr", PLANES, version="0.5")
        for top in ("", "a.ome.zarr/"):
            with open_slide(zipped(folder, tmp_path / "a.zip", top)) as slide:
                np.testing.assert_array_equal(read_all(slide), NOISE)


def plain(folder: Path) -> Path:
    return write_ome_zarr(folder, PLANES, compressors=None)


def with_array(**values: object) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        change(plain(folder) / "0" / ".zarray", lambda document: document.update(values))

    return write


def with_about(edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    return lambda folder: change(plain(folder) / ".zattrs", edit)


def with_chunk(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (plain(folder) / "0" / "0.0.0.0.0").write_bytes(content)


def chunk_as_a_link(folder: Path) -> None:
    chunk = plain(folder) / "0" / "0.0.0.0.0"
    outside = folder.with_name("secret")
    chunk.rename(outside)
    chunk.symlink_to(outside)


def folder_as_a_link(folder: Path) -> None:
    (plain(folder) / "0").rename(folder.with_name("outside"))
    (folder / "0").symlink_to(folder.with_name("outside"))


def chunk_as_a_pipe(folder: Path) -> None:
    chunk = plain(folder) / "0" / "0.0.0.0.0"
    chunk.unlink()
    os.mkfifo(chunk)


def deflated_bomb(folder: Path) -> None:
    """A chunk of 5 kB that would be 4 MB."""
    with_array(compressor={"id": "zlib", "level": 1})(folder)
    packer = zlib.compressobj(9)
    block = bytes(2**20)
    content = b"".join(packer.compress(block) for _ in range(4)) + packer.flush()
    (folder / "0" / "0.0.0.0.0").write_bytes(content)


def shard_with_index(first: int, count: int) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        array = zarr.create_array(
            store=str(folder / "0"), shape=(64, 64), chunks=(32, 32), shards=(64, 64), dtype="u1", zarr_format=3
        )
        array[:] = NOISE[:64, :64, 0]
        axes = [{"name": "y"}, {"name": "x"}]
        write_metadata(folder, {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}, "0.5")
        (shard,) = (folder / "0" / "c").rglob("0/0")
        content = bytearray(shard.read_bytes())
        index = np.frombuffer(content[-68:-4], "<u8").copy()
        index[:2] = first, count
        content[-68:-4] = index.tobytes()
        content[-4:] = google_crc32c.value(bytes(content[-68:-4])).to_bytes(4, "little")
        shard.write_bytes(content)

    return write


def stack(axis: str) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        axes = f"{axis}yx"
        zarr.create_array(store=str(folder / "0"), shape=(3, 20, 20), chunks=(1, 20, 20), dtype="u1", zarr_format=2)
        named = [{"name": name} for name in axes]
        write_metadata(folder, {"multiscales": [{"axes": named, "datasets": [{"path": "0"}]}]}, "0.4")

    return write


def first(about: dict[str, Any]) -> dict[str, Any]:
    multiscale: dict[str, Any] = about["multiscales"][0]
    return multiscale


def rename_to_plate(about: dict[str, Any]) -> None:
    about["plate"] = about.pop("multiscales")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "without metadata": (with_about(dict.clear), "without the metadata of an OME-Zarr .* write it as OME-Zarr"),
    "a plate": (with_about(rename_to_plate), "a plate of many images; submit"),
    "a stack": (stack("z"), "a stack of 3 planes .axis z.; submit each plane"),
    "a film": (stack("t"), "a stack of 3 planes .axis t.; submit each plane"),
    "axes of no image": (with_about(lambda about: first(about).update(axes=["q", "y", "x"])), "axes q, y, x; an image"),
    "axes too few": (with_about(lambda about: first(about).update(axes=["y", "x"])), "its axes are yx, its shape"),
    "no JSON": (lambda folder: (plain(folder) / ".zattrs").write_text("{"), "damaged, incomplete"),
    "JSON without end": (lambda folder: (plain(folder) / ".zattrs").write_text("[" * 200_000), "nested too deeply"),
    "a missing array": (lambda folder: (plain(folder) / "0" / ".zarray").unlink(), "the array 0 is missing"),
    "a huge chunk": (with_array(chunks=[1, 3, 1, 60_000, 60_000]), "is the limit; save it with smaller chunks"),
    "a huge image": (with_array(shape=[1, 3, 1, 10**7, 10**7]), "beyond what is taken"),
    "a huge image of nothing": (with_array(shape=[1, 3, 1, 10**5, 10**5]), "nearly all chunks .* are missing; send"),
    "a shape below zero": (with_array(shape=[1, 3, 1, -5, 5]), "its shape cannot be"),
    "a shape of no end": (with_array(shape=[1, 3, 1, 1e400, 5]), "its shape cannot be"),
    "a chunk of nothing": (with_array(chunks=[1, 1, 1, 0, 5]), "its chunks cannot be"),
    "too many channels": (with_array(shape=[1, 500, 1, 200, 150]), "500 channels, 200 is the limit"),
    "an unknown codec": (with_array(compressor={"id": "pickle"}), "packed by pickle; known are blosc"),
    "filters": (with_array(filters=[{"id": "delta", "dtype": "u1"}]), "save it without filters"),
    "numbers of no kind": (with_array(dtype=[["a", "u1"]]), "its numbers are of the type"),
    "objects": (with_array(dtype="|O"), "its numbers are of the type"),
    "keys of no kind": (with_array(dimension_separator="../"), "its chunk keys are separated by"),
    "a fill value of no kind": (with_array(fill_value=[1]), "its fill value cannot be"),
    "a path out of it": (with_about(lambda about: first(about)["datasets"][0].update(path="../x")), "lies under"),
    "a path from the root": (with_about(lambda about: first(about)["datasets"][0].update(path="/etc")), "lies under"),
    "a chunk cut off": (with_chunk(b"too short"), "a chunk holds 9 bytes instead of"),
    "a chunk too long": (with_chunk(bytes(10**6)), "a chunk takes 1000000 bytes where"),
    "a chunk that is a link": (chunk_as_a_link, "a link that leads out of the folder"),
    "a folder that is a link": (folder_as_a_link, "a link that leads out of the folder"),
    "a chunk that is a pipe": (chunk_as_a_pipe, "is no file"),
    "a chunk that unfolds": (deflated_bomb, "holds more than the .* bytes that it should"),
    "a shard with a chunk beyond it": (shard_with_index(10**9, 10), "lies beyond the end of its shard"),
    "a shard with a chunk of any length": (shard_with_index(0, 2**63), "lies beyond the end of its shard"),
}


class TestRefused:
    @pytest.mark.parametrize("kind", REFUSED)
    def test_what_cannot_be_read_is_refused_by_name_cause_and_mend(self, tmp_path: Path, kind: str) -> None:
        write, cause = REFUSED[kind]
        write(tmp_path / "a.ome.zarr")
        text = refusal(tmp_path / "a.ome.zarr")
        assert re.search(cause, text), text

    def test_no_memory_is_taken_for_what_they_announce(self, tmp_path: Path) -> None:
        for name, (write, _) in REFUSED.items():
            write(tmp_path / name / "a.ome.zarr")
        command = [sys.executable, "-c", ONE_PROCESS, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert int(done.stdout) < 50_000  # KiB

    def test_a_zip_whose_list_of_files_is_too_long_is_refused(self, tmp_path: Path) -> None:
        path = zipped(plain(tmp_path / "a.ome.zarr"), tmp_path / "a.zip")
        content = bytearray(path.read_bytes())
        place = content.rindex(b"PK\5\6") + 12
        content[place : place + 4] = (2**31).to_bytes(4, "little")
        path.write_bytes(content)
        assert "lists too many files; send it as a folder" in refusal(path)

    def test_a_zip_that_holds_no_zarr_is_refused(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("read.me", "nothing")
        assert "without the metadata of an OME-Zarr" in refusal(tmp_path / "a.zip")

    def test_a_zip_that_is_cut_off_is_refused(self, tmp_path: Path) -> None:
        path = zipped(plain(tmp_path / "a.ome.zarr"), tmp_path / "a.zip")
        path.write_bytes(path.read_bytes()[:1000])
        assert "the list of its files is missing" in refusal(path)

    def test_a_folder_of_many_images_is_refused(self, tmp_path: Path) -> None:
        for name in ("a.png", "b.png"):
            (tmp_path / name).write_bytes(b"anything")
        assert "submit its images one by one" in refusal(tmp_path)


@pytest.mark.parametrize("path", ["", "/a", "../a", "a/../../b", "a\\b", "a\0b"])
def test_a_path_that_leads_elsewhere_is_not_safe(path: str) -> None:
    assert not is_safe(path)


FLIPPED_BITS = """
import sys
import numcodecs, numpy as np
from shared.slides.inflating import DAMAGE, inflate

random = np.random.default_rng(0)
numbers = (np.arange(4096, dtype=np.uint16) // 3).tobytes()
blosc = [{"cname": name} for name in ("lz4", "zstd", "blosclz", "zlib")]
kinds = blosc if sys.argv[1] == "blosc" else [{}]
packed = [bytes(numcodecs.get_codec({"id": sys.argv[1], **options}).encode(numbers)) for options in kinds]
for number in range(4000):
    content = bytearray(packed[number % len(packed)])
    for place in random.integers(0, 40, 3):
        content[place] ^= 1 << int(random.integers(8))
    try:
        inflate(sys.argv[1], bytes(content), len(numbers))
    except DAMAGE:
        pass
"""
ONE_PROCESS = """
import resource, sys
from pathlib import Path
from shared.errors import Rejected
from shared.slides import open_slide

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).glob("*/a.ome.zarr")):
    try:
        with open_slide(path) as slide:
            slide.overview(64)
        raise SystemExit(f"{path} was taken")
    except Rejected:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
