"""JSON that strangers wrote, taken item by item: the whole as Python objects would be ten times the file."""

import json
import re
from collections.abc import Generator, Iterator
from typing import Any

from shared.errors import Rejected

LONGEST = 200  # characters of the name of a class or a channel
_SPACE = re.compile(r"[ \t\r\n]*")
_ESCAPED = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")  # JSON that may hold what `clean` takes away
_UNKEPT = re.compile("[\x00\ud800-\udfff]")
_DECODER = json.JSONDecoder()
_Members = Generator[tuple[str, Any], None, int]  # what is found, and in the end the place behind it


def walk(content: bytes, name: str) -> Iterator[tuple[str, Any]]:
    """What a JSON file holds, as (key, value); of lists each item by itself, under the key of its list.

    A file that is a list itself gives its items under "". Texts are clean.

    Raises:
        Rejected: it is no JSON, or another kind of document.
    """
    try:
        text = content.decode("utf-8-sig")
        start = _skip(text, 0)
        members = _walk_list(text, start, "") if text.startswith("[", start) else _walk_object(text, start)
        _expect_end(text, (yield from (_walk_clean(members) if _ESCAPED.search(text) else members)))
    except (ValueError, RecursionError) as error:
        raise Rejected(f"{name}: the JSON is damaged or cut off ({error}); export it again") from error


def clean(value: Any) -> Any:
    """The same JSON value, with the sign for unknown letters in place of what neither UTF-8 nor PostgreSQL keeps.

    That is the character 0, and half of a pair of surrogates.
    """
    if isinstance(value, str):
        return _UNKEPT.sub("\ufffd", value)
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    return value


def short_name(value: object) -> str:
    """What a file calls a class or a channel, as it is kept."""
    name = str(clean(str(value)))
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _walk_clean(members: _Members) -> _Members:
    while True:
        try:
            key, value = next(members)
        except StopIteration as end:
            return int(end.value)
        yield clean(key), clean(value)


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _walk_object(text: str, at: int) -> _Members:
    at = _expect(text, at, "{")
    if text.startswith("}", at):
        return at + 1
    while True:
        key, at = _DECODER.raw_decode(text, at)
        at = _expect(text, _skip(text, at), ":")
        if text.startswith("[", at):
            at = yield from _walk_list(text, at, str(key))
        else:
            value, at = _DECODER.raw_decode(text, at)
            yield str(key), value
        at = _skip(text, at)
        if text.startswith("}", at):
            return at + 1
        at = _expect(text, at, ",")


def _walk_list(text: str, at: int, key: str) -> _Members:
    at = _expect(text, at, "[")
    if text.startswith("]", at):
        return at + 1
    while True:
        value, at = _DECODER.raw_decode(text, at)
        yield key, value
        at = _skip(text, at)
        if text.startswith("]", at):
            return at + 1
        at = _expect(text, at, ",")


def _expect_end(text: str, at: int) -> None:
    if _skip(text, at) != len(text):
        raise ValueError(f"something follows its end, at character {at}")


def _expect(text: str, at: int, sign: str) -> int:
    """The place after a sign and the space that follows it. Raises ValueError if another stands there."""
    if not text.startswith(sign, at):
        raise ValueError(f"{sign} is missing at character {at}")
    return _skip(text, at + 1)
