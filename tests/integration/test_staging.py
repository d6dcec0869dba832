"""Images on their way through a worker."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from PIL import Image

from services.worker.staging import OPEN_SLIDES, Staging
from shared.errors import Missing, Rejected
from shared.imaging.tiling import Box
from shared.slides import Limits, TooLarge
from shared.storage import Storage
from shared.tables import JobImage


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def stored(storage: Storage, path: Path, *, pad: int = 0) -> JobImage:
    """The image in the store; `pad` bytes behind its end make it another one that reads the same."""
    body = path.read_bytes() + bytes(pad)
    digest = hashlib.sha256(body).hexdigest()
    key = storage.put(f"tests/{uuid4()}", body).key
    return JobImage(id=uuid4(), name="a/B.PNG", key=key, sha256=digest, bytes=len(body), facts={})


def test_an_image_is_fetched_once_however_many_want_it(storage: Storage, ihc: Path, tmp_path: Path) -> None:
    staging, image = Staging(storage, tmp_path, limit=10**9), stored(storage, ihc)
    with ThreadPoolExecutor(8) as pool:
        slides = list(pool.map(lambda _: staging.open(image), range(16)))
    assert len({id(slide) for slide in slides}) == 1
    assert [path.suffix for path in files_in(tmp_path)] == [".png"]


def test_the_cache_keeps_within_its_limit_and_open_images_stay_readable(
    storage: Storage, ihc: Path, tmp_path: Path
) -> None:
    size = ihc.stat().st_size
    staging = Staging(storage, tmp_path, limit=2 * size)
    slides = [staging.open(stored(storage, ihc, pad=pad)) for pad in range(OPEN_SLIDES + 3)]
    assert len(files_in(tmp_path)) <= OPEN_SLIDES + 1
    for slide in slides:
        assert slide.read(Box(0, 0, 4, 4)).shape == (4, 4, 3)


def test_bytes_that_are_not_the_announced_ones_are_refused_and_not_kept(
    storage: Storage, ihc: Path, tmp_path: Path
) -> None:
    image = stored(storage, ihc)
    storage.put(image.key, b"something else")
    with pytest.raises(Rejected, match=r"a/B\.PNG: the stored bytes do not have the announced sha256"):
        Staging(storage, tmp_path, limit=10**9).open(image)
    assert files_in(tmp_path) == []
    assert storage.look(image.key) is None, "or the mend, to upload again, would do nothing"


def test_no_more_bytes_are_fetched_than_were_announced(
    storage: Storage, ihc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = stored(storage, ihc)
    storage.put(image.key, bytes(image.bytes + 1))
    monkeypatch.setattr("botocore.response.StreamingBody.iter_chunks", refuse)
    with pytest.raises(Missing, match=r"a/B\.PNG: the stored bytes do not have the announced sha256"):
        Staging(storage, tmp_path, limit=10**9).open(image)
    assert storage.look(image.key) is None


def test_no_workspace_is_given_anothers_copy(storage: Storage, ihc: Path, tmp_path: Path) -> None:
    staging, mine = Staging(storage, tmp_path, limit=10**9), stored(storage, ihc)
    staging.open(mine)
    theirs = stored(storage, ihc)
    storage.put(theirs.key, bytes(theirs.bytes))  # they announce my hash, and have not my bytes
    with pytest.raises(Rejected, match="announced sha256"):
        staging.open(theirs)


def test_bytes_that_are_gone_are_said_to_be(storage: Storage, ihc: Path, tmp_path: Path) -> None:
    image = stored(storage, ihc)
    image.key = "tests/nothing"
    with pytest.raises(Rejected, match="not in the object store any more"):
        Staging(storage, tmp_path, limit=10**9).open(image)


def test_an_image_that_another_process_removed_is_fetched_again(storage: Storage, ihc: Path, tmp_path: Path) -> None:
    staging, image = Staging(storage, tmp_path, limit=10**9), stored(storage, ihc)
    staging.open(image)
    (path,) = files_in(tmp_path)
    path.unlink()
    assert staging.open(image).read(Box(0, 0, 4, 4)).shape == (4, 4, 3)
    assert path.stat().st_size == ihc.stat().st_size


def test_what_a_killed_process_was_fetching_is_removed(storage: Storage, tmp_path: Path) -> None:
    Staging(storage, tmp_path, limit=10**9)
    abandoned, on_its_way = (tmp_path / "parts" / name for name in ("abandoned", "on-its-way"))
    for path in (abandoned, on_its_way):
        path.write_bytes(b"half")
    os.utime(abandoned, (0, 0))
    Staging(storage, tmp_path, limit=10**9)
    assert files_in(tmp_path) == [on_its_way]


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_borrowed_image_that_is_too_large_is_not_decoded(
    storage: Storage, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blank PNG of 144 million pixels has 400 kB: whoever decodes some at once runs out of memory."""
    path = tmp_path / f"blank.{suffix}"
    Image.new("L", (5000, 3000)).save(path)
    image = stored(storage, path)
    path.unlink()
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.load", refuse)
    monkeypatch.setattr("imagecodecs.png_decode", refuse)
    staging = Staging(storage, tmp_path, limit=10**9)
    with pytest.raises(TooLarge, match="5000 × 3000"), staging.borrow(image, limits=Limits(side=1024)):
        raise AssertionError("it was opened")
    assert files_in(tmp_path) == []


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("it was read")
