"""Which local files are meant, and that they stay as they were hashed."""

import hashlib
import json
from pathlib import Path
from typing import Any

import overtile
import pytest
from overtile.files import HashedFile, collect, read_unchanged


def test_a_folder_is_walked_and_hidden_files_stay_behind(tmp_path: Path) -> None:
    for name in ("images/a.png", "masks/a.png", ".DS_Store", ".cache/b.png", "images/.c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [file.name for file in collect(tmp_path)] == ["images/a.png", "masks/a.png"]


def test_the_hidden_files_that_an_image_consists_of_go_with_it(tmp_path: Path) -> None:
    for name in ("a.zarr/.zgroup", "a.zarr/0/.zarray", "a.zarr/0/0", "a.zarr/.DS_Store"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [file.name for file in collect(tmp_path)] == ["a.zarr/.zgroup", "a.zarr/0/.zarray", "a.zarr/0/0"]


def test_a_linked_folder_is_walked_but_not_in_circles(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").touch()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "root" / "circle").symlink_to(tmp_path / "root")
    assert [file.name for file in collect([tmp_path / "root"])] == ["link/a.png"]


def test_a_mapping_names_its_files(tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    assert [file.name for file in collect({"images/a.png": tmp_path / "x.png"})] == ["images/a.png"]


@pytest.mark.parametrize("given", [["{}/missing.png"], "{}/missing.png", {"a.png": "{}/missing.png"}])
def test_a_missing_path_is_named(tmp_path: Path, given: Any) -> None:
    filled = json.loads(json.dumps(given).replace("{}", str(tmp_path)))
    with pytest.raises(overtile.LocalFileError, match=r"missing\.png does not exist"):
        collect(filled)


def test_a_broken_link_in_a_folder_is_named_and_not_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(overtile.LocalFileError, match=r"a\.png does not exist"):
        collect(tmp_path)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(overtile.LocalFileError, match=f"no files to upload in {tmp_path}"):
        collect(tmp_path)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").touch()
    with pytest.raises(overtile.LocalFileError, match="give the folder above them"):
        collect([tmp_path / "images", tmp_path / "masks"])


@pytest.mark.parametrize("now", [b"other data", b"longer than it was", b"short"])
def test_the_last_bytes_of_a_file_that_changed_are_not_handed_out(tmp_path: Path, now: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(now)
    before = HashedFile("a.png", path, hashlib.sha256(b"first data").hexdigest(), len(b"first data"))
    handed_out: list[bytes] = []
    with pytest.raises(overtile.LocalFileError, match=r"a\.png changed"):
        handed_out.extend(read_unchanged(before))
    assert handed_out == []


def test_a_file_that_grew_is_noticed_before_more_is_sent_than_was_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overtile.files.CHUNK", 4)
    path = tmp_path / "a.tif"
    path.write_bytes(b"12345678 and more")
    handed_out: list[bytes] = []
    with pytest.raises(overtile.LocalFileError, match="changed"):
        handed_out.extend(read_unchanged(HashedFile("a.tif", path, hashlib.sha256(b"12345678").hexdigest(), 8)))
    assert sum(map(len, handed_out)) < 8
