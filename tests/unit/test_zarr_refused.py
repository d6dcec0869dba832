"""OME-Zarrs that are refused before they do harm: damaged, hostile, or no single image."""

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
import numpy as np
import pytest
import zarr

from shared.slides.zarr_files import is_safe
from tests.slide_files import NOISE, refusal
from tests.zarr_images import PLANES, change, write_metadata, write_ome_zarr, zipped


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
