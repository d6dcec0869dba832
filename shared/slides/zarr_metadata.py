"""What a Zarr array says of itself: the JSON of formats 2 and 3, checked, and made one description."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from shared.imaging.normalisation import Samples
from shared.slides.inflating import CODECS, Decoded, inflate
from shared.slides.zarr_files import ZarrFiles

DOCUMENT = 2**24  # bytes of a metadata file
LONGEST = 2**40  # entries along an axis
AXES = 8
CHUNKS_PER_SHARD = 2**18
SPARE = 1024  # bytes that an incompressible chunk may take beyond its own size, and a 64th of that besides
NUMBER = re.compile(r"[<>|](b1|[iu][1248]|f[248])|bool|u?int(8|16|32|64)|float(16|32|64)")  # of format 2, and of 3
ENDS: dict[Any, Literal["<", ">"]] = {"little": "<", "big": ">"}


@dataclass(frozen=True)
class Packing:
    """How the numbers of a chunk became bytes. `order`: its axes as they are stored. `codecs`: as they were applied."""

    number: np.dtype[Any]
    order: tuple[int, ...]
    codecs: tuple[str, ...]

    def unpack(self, data: bytes, shape: Sequence[int]) -> Samples:
        """Numbers of the shape. Raises inflating.DAMAGE."""
        size = math.prod(shape) * self.number.itemsize
        content: Decoded = data
        for codec in reversed(self.codecs):
            content = inflate(codec, content, with_spare(size))
        if len(content) != size:
            raise ValueError(f"a chunk holds {len(content)} bytes instead of {size}")
        stored = np.frombuffer(content, self.number).reshape([shape[axis] for axis in self.order])
        return stored.transpose(np.argsort(self.order))


@dataclass(frozen=True)
class ArrayDescription:
    """An array in chunks. `shard`: the shape of the files that hold many of them, None if each has its own."""

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    packing: Packing
    fill: Any
    prefix: str
    separator: str
    shard: tuple[int, ...] | None = None
    index: Packing | None = None
    index_first: bool = False

    @property
    def number(self) -> np.dtype[Any]:
        """Type of the numbers as they are given out: in the machine's order of bytes."""
        return self.packing.number.newbyteorder("=")

    def key(self, place: Sequence[int]) -> str:
        """Where the chunk, or the shard, at a place of its grid lies below the array."""
        return self.prefix + self.separator.join(str(index) for index in place)


def with_spare(size: int) -> int:
    """Bytes that `size` may take once compressed, however badly."""
    return size + size // 64 + SPARE


def read_document(files: ZarrFiles, key: str) -> dict[str, Any] | None:
    """A metadata file, None if there is none. Raises ValueError if it is no JSON object, or too long."""
    size = files.size(key)
    if size is None:
        return None
    if size > DOCUMENT:
        raise ValueError(f"{key} has {size} bytes, more than metadata need")
    try:
        document = json.loads(files.read(key, 0, size))
    except RecursionError as error:
        raise ValueError(f"{key} is nested too deeply") from error
    return _mapping(document, key)


def describe(files: ZarrFiles, path: str) -> ArrayDescription:
    """The array that lies under `path`. Raises ValueError where it cannot be read, the text says why."""
    document = read_document(files, f"{path}/zarr.json")
    if document is not None:
        return _describe3(document)
    document = read_document(files, f"{path}/.zarray")
    if document is None:
        raise ValueError(f"the array {path} is missing")
    return _describe2(document)


def _describe2(document: Mapping[str, Any]) -> ArrayDescription:
    shape = _lengths(document.get("shape"), "shape")
    chunk = _lengths(document.get("chunks"), "chunks", axes=len(shape))
    if document.get("filters"):
        raise ValueError("its chunks are filtered before they are compressed; save it without filters")
    named = _number(document.get("dtype"))
    compressor = document.get("compressor")
    codecs = () if compressor is None else (_codec(_mapping(compressor, "its compressor").get("id")),)
    axes = tuple(range(len(shape)))
    return ArrayDescription(
        shape=shape,
        chunk=chunk,
        packing=Packing(np.dtype(named), axes[::-1] if document.get("order") == "F" else axes, codecs),
        fill=_fill(document.get("fill_value"), named),
        prefix="",
        separator=_separator(document.get("dimension_separator", ".")),
    )


def _describe3(document: Mapping[str, Any]) -> ArrayDescription:
    if document.get("node_type") != "array":
        raise ValueError("it is a group where an array should be")
    shape = _lengths(document.get("shape"), "shape")
    named = _number(document.get("data_type"))
    chunk = _lengths(_configuration(document.get("chunk_grid"), "regular").get("chunk_shape"), "chunks", len(shape))
    keys = _mapping(document.get("chunk_key_encoding"), "its chunk keys")
    default = keys.get("name") == "default"
    separator = _separator(
        _mapping(keys.get("configuration", {}), "its chunk keys").get("separator", "/" if default else ".")
    )
    common = {
        "shape": shape,
        "fill": _fill(document.get("fill_value"), named),
        "prefix": f"c{separator}" if default else "",
        "separator": separator,
    }
    chain = _sequence(document.get("codecs"), "its codecs")
    if len(chain) == 1 and _name(chain[0]) == "sharding_indexed":
        return _sharded(_configuration(chain[0], "sharding_indexed"), chunk, named, common)
    return ArrayDescription(chunk=chunk, packing=_packing(chain, named, len(shape)), **common)


def _sharded(
    sharding: Mapping[str, Any], shard: tuple[int, ...], named: str, common: Mapping[str, Any]
) -> ArrayDescription:
    chunk = _lengths(sharding.get("chunk_shape"), "chunks", len(shard))
    if any(whole % part for whole, part in zip(shard, chunk, strict=True)):
        raise ValueError(f"its shards {shard} do not hold whole chunks {chunk}")
    if math.prod(shard) // math.prod(chunk) > CHUNKS_PER_SHARD:
        raise ValueError(f"a shard holds more than {CHUNKS_PER_SHARD} chunks")
    index = _packing(_sequence(sharding.get("index_codecs"), "its index"), "uint64", len(shard) + 1)
    if set(index.codecs) - {"crc32c"}:
        raise ValueError("the index of its shards is compressed")
    return ArrayDescription(
        chunk=chunk,
        packing=_packing(_sequence(sharding.get("codecs"), "its codecs"), named, len(shard)),
        shard=shard,
        index=index,
        index_first=sharding.get("index_location") == "start",
        **common,
    )


def _packing(chain: Sequence[Any], named: str, axes: int) -> Packing:
    order, number, codecs = tuple(range(axes)), np.dtype(named), []
    for codec in chain:
        name = _name(codec)
        if name == "transpose":
            order = _permutation(_configuration(codec, name).get("order"), axes)
        elif name == "bytes":
            end = ENDS.get(_configuration(codec, name).get("endian", "little"), "<")
            number = number.newbyteorder(end)
        else:
            codecs.append(_codec(name))
    return Packing(number, order, tuple(codecs))


def _permutation(order: Any, axes: int) -> tuple[int, ...]:
    permuted = tuple(_sequence(order, "the order of its axes"))
    if sorted(permuted, key=str) != [*range(axes)]:
        raise ValueError(f"the order of its axes {permuted} is none of {axes}")
    return permuted


def _lengths(value: Any, what: str, axes: int | None = None) -> tuple[int, ...]:
    lengths = tuple(_sequence(value, what))
    whole = all(type(length) is int and 0 < length < LONGEST for length in lengths)
    if not whole or not 1 <= len(lengths) <= AXES or (axes is not None and len(lengths) != axes):
        raise ValueError(f"its {what} cannot be {lengths}")
    return lengths


def _number(named: Any) -> str:
    if not isinstance(named, str) or not NUMBER.fullmatch(named):
        raise ValueError(f"its numbers are of the type {named}")
    return named


def _fill(value: Any, number: DTypeLike) -> Any:
    """The fill value as a number of the type; 0 where it is left open."""
    special = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
    plain = special.get(value, value) if isinstance(value, str) else value
    if plain is not None and not isinstance(plain, (int, float)):
        raise ValueError(f"its fill value cannot be {value}")
    try:
        return np.array(plain or 0, dtype=number)
    except (OverflowError, TypeError) as error:
        raise ValueError(f"its fill value cannot be {value}") from error


def _codec(name: Any) -> str:
    if not isinstance(name, str) or name not in CODECS:
        raise ValueError(f"its chunks are packed by {name}; known are {', '.join(sorted(CODECS))}")
    return name


def _separator(value: Any) -> str:
    if value not in (".", "/"):
        raise ValueError(f"its chunk keys are separated by {value!r}")
    return str(value)


def _name(codec: Any) -> Any:
    return codec if isinstance(codec, str) else _mapping(codec, "a codec").get("name")


def _configuration(value: Any, name: str) -> Mapping[str, Any]:
    """The settings of something that must bear a name."""
    if _name(value) != name:
        raise ValueError(f"{name} is needed where {_name(value)} is")
    return {} if isinstance(value, str) else _mapping(value.get("configuration", {}), name)


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no JSON object")  # noqa: TRY004  # the file is wrong, not the caller
    return value


def _sequence(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{what}: no list")  # noqa: TRY004  # the file is wrong, not the caller
    return value
