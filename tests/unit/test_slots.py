"""Slots without a model server: where they lie, and what becomes of their memory."""

import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from services.worker import shared_memory
from services.worker.shared_memory import PREFIX, Region, is_abandoned, remove_abandoned
from services.worker.slots import RegionRefused, Slots
from shared.errors import Unavailable

TILES, ANSWER = (2, 64, 48, 3), (2, 1, 32, 16)


class Book:
    """A model server's book of regions, that may refuse to write."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.error: Unavailable | None = None

    def register(self, region: Region) -> None:
        if self.error is not None:
            raise self.error
        self.names.append(region.name)

    def unregister(self, name: str) -> None:
        self.names.remove(name)

    def registered(self) -> list[str]:
        return list(self.names)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def slots(book: Book) -> Iterator[Slots]:
    slots = Slots(book, shared=True)
    yield slots
    slots.close()


def test_tiles_and_answer_of_a_slot_do_not_overlap(slots: Slots) -> None:
    slot = slots.take(TILES, ANSWER)
    assert slot.place is not None
    slot.tiles[:] = 1
    slot.place.answer[:] = 2
    assert (slot.tiles == 1).all()
    assert slot.place.answer.shape == ANSWER


def test_a_slot_that_came_back_is_used_again(slots: Slots, book: Book) -> None:
    for _ in range(3):
        slots.give_back(slots.take(TILES, ANSWER))
    assert len(book.names) == 1


def test_slots_in_use_at_once_share_no_memory(slots: Slots) -> None:
    first, second = slots.take(TILES, ANSWER), slots.take(TILES, ANSWER)
    first.tiles[:], second.tiles[:] = 1, 2
    assert (first.tiles == 1).all()


def test_a_distrusted_slot_keeps_its_tiles_and_loses_its_place(slots: Slots, book: Book, folder: Path) -> None:
    slot = slots.take(TILES, ANSWER)
    slot.tiles[:] = 7
    slots.distrust(slot)
    assert slot.place is None
    assert (slot.tiles == 7).all()
    assert not book.names
    assert not list(folder.iterdir())


def test_a_full_folder_makes_ordinary_arrays(
    slots: Slots, book: Book, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    slot = slots.take(TILES, ANSWER)
    assert slot.place is None
    assert slot.tiles.shape == TILES
    assert not book.names
    assert not list(folder.iterdir())


def test_a_server_that_refused_is_not_asked_until_it_may_be_another(slots: Slots, book: Book, folder: Path) -> None:
    book.error = RegionRefused("it runs elsewhere")
    assert slots.take(TILES, ANSWER).place is None
    book.error = None
    assert slots.take(TILES, ANSWER).place is None
    assert not list(folder.iterdir())
    slots.try_again()
    assert slots.take(TILES, ANSWER).place is not None


def test_a_server_that_was_away_is_asked_again(slots: Slots, book: Book) -> None:
    book.error = Unavailable("away")
    assert slots.take(TILES, ANSWER).place is None
    book.error = None
    assert slots.take(TILES, ANSWER).place is not None


def test_without_sharing_nothing_is_registered(book: Book) -> None:
    slots = Slots(book, shared=False)
    slots.try_again()
    assert slots.take(TILES, ANSWER).place is None
    assert not book.names


def test_memory_that_the_server_needs_itself_is_left_to_it(
    slots: Slots, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 40960
    free = SimpleNamespace(f_bavail=4 * needed // 4096 - 1, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: free)
    with pytest.raises(OSError, match="4 times as much"):
        Region(needed)
    assert slots.take(TILES, ANSWER).place is not None  # smaller
    free.f_bavail += 1
    assert Region(needed).size == needed


def test_only_regions_that_nobody_holds_are_removed(folder: Path) -> None:
    held, left = Region(4096), Region(4096)
    name = left.name
    del left  # as its owner's death does, it ends the mapping and with it the lock
    (folder / "of-somebody-else").touch()
    remove_abandoned()
    assert not is_abandoned(held.name)
    assert is_abandoned(name)
    assert {path.name for path in folder.iterdir()} == {held.name, "of-somebody-else"}


def test_a_region_is_removed_while_nobody_can_claim_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or another process, that has just made it, would take its lock in between and use what has no name any more."""
    (folder / f"{PREFIX}1-new").touch()
    claimed: list[bool] = []

    def unlink(path: Path, missing_ok: bool = False) -> None:
        with path.open() as other:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                claimed.append(False)
            else:
                claimed.append(True)

    monkeypatch.setattr(Path, "unlink", unlink)
    remove_abandoned()
    assert claimed == [False]


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_link(path: Path) -> None:
    aim = path.with_name("of-somebody-else")
    aim.touch()
    path.symlink_to(aim)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


@pytest.mark.timeout(10)  # it would wait for ever for somebody to write into the pipe
@pytest.mark.parametrize("make", [make_pipe, make_link, make_socket, Path.mkdir])
def test_what_is_no_region_but_has_the_name_of_one_is_left_alone(
    folder: Path, slots: Slots, make: Callable[[Path], None]
) -> None:
    path = folder / f"{PREFIX}1-odd"
    make(path)
    left = f"{PREFIX}1-left"
    (folder / left).touch()
    remove_abandoned()
    assert not is_abandoned(path.name)
    assert path.is_symlink() or path.exists()
    assert not (folder / left).exists()


def test_what_another_account_left_is_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / f"{PREFIX}1-theirs"
    path.touch()
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    remove_abandoned()
    assert not is_abandoned(path.name)
    assert path.exists()


def test_the_registration_of_a_region_that_nobody_holds_is_dropped(slots: Slots, book: Book) -> None:
    book.names = [f"{shared_memory.PREFIX}1-gone", "of-somebody-else"]
    slots.take(TILES, ANSWER)
    assert f"{shared_memory.PREFIX}1-gone" not in book.names
    assert "of-somebody-else" in book.names
