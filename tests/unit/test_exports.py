"""The files that are made of an image's objects are closed, however it ends."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest

from services.worker.stages import exports
from services.worker.stages.exports import Exports, Shelf


@dataclass(frozen=True)
class Watched(Shelf):
    """A folder that remembers the files that were made in it."""

    files: list[BinaryIO] = field(default_factory=list)

    def open(self, suffix: str, stack: ExitStack) -> BinaryIO:
        file = super().open(suffix, stack)
        self.files.append(file)
        return file


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Watched]:
    nothing: Any = SimpleNamespace()
    made = Watched(nothing, nothing, tmp_path)
    yield made
    for file in made.files:
        file.close()


@pytest.fixture
def making(shelf: Watched) -> Exports:
    legend = SimpleNamespace(channels=("grey",), classes=("background", "nucleus"))
    subject: Any = SimpleNamespace(image=SimpleNamespace(name="a.tif"), mpp=None, legend=legend)
    return Exports(subject, ("table",), shelf, objects=0)


def test_files_on_disk_are_closed_once_they_are_whole(shelf: Watched, making: Exports) -> None:
    with making:
        assert not any(file.closed for file in shelf.files)
    assert [file.closed for file in shelf.files] == [True, True]


def test_files_are_closed_when_what_is_written_to_them_fails(shelf: Watched, making: Exports) -> None:
    with pytest.raises(ZeroDivisionError), making:
        raise ZeroDivisionError
    assert [file.closed for file in shelf.files] == [True, True]


def test_files_are_closed_when_another_cannot_be_made(
    shelf: Watched, making: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Exports) -> None:
        raise OSError("no space left on the device")

    table = exports._MAKERS["table"]
    monkeypatch.setattr(exports, "_MAKERS", {"table": (*table, fail)})
    with pytest.raises(OSError, match="no space"):
        making.__enter__()
    assert [file.closed for file in shelf.files] == [True, True]
