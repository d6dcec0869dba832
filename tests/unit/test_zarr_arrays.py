"""Arrays of Zarr: the numbers that zarr itself reads, however they are packed, and none beyond the announced size."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numcodecs  # type: ignore[import-untyped]
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

from shared.slides.inflating import CODECS, inflate
from shared.slides.zarr_arrays import ChunkedArray
from shared.slides.zarr_files import FolderFiles
from shared.slides.zarr_metadata import describe
from tests.zarr_images import NUMBERS, change

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
