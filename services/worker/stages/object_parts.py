"""What LABEL found in each region, in the store until its image is assembled."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from services.worker.context import Context
from shared.domain import blocks
from shared.imaging.objects.pieces import Pieces
from shared.imaging.objects.seams import Seams
from shared.imaging.tiling import Box
from shared.storage import image_key
from shared.tables import JobImage
from shared.tables.base import Json
from shared.tables.jobs import Stage

LENGTH = struct.Struct("<I")  # of the header
FOLDER = "object-parts"
LEVEL = 1  # of zstd: it is read once

Labels = NDArray[np.uint32]


@dataclass(frozen=True)
class Part:
    """The objects of a region, perhaps pieces of larger ones."""

    labels: Labels  # (h, w), 1 … n, 0 = background
    seams: Seams
    pieces: Pieces


class ObjectParts:
    """Those of one image. Safe to share between threads."""

    def __init__(self, context: Context, image: JobImage) -> None:
        self._context, self._image = context, image

    def put(self, box: Box, part: Part) -> Json:
        """Store it; gives the hashes by which it is known, for the result of the block."""
        parts = {
            "labels": {"labels": part.labels},
            "seams": part.seams.to_arrays(),
            "pieces": part.pieces.to_arrays(),
        }
        put = self._context.storage.put
        return {name: put(self._key(box, name), pack(arrays)).sha256 for name, arrays in parts.items()}

    @cached_property
    def boxes(self) -> list[Box]:
        """The regions in which was looked, row by row."""
        return sorted(self._digests, key=lambda box: (box.top, box.left))

    def labels(self, box: Box) -> Labels:
        """The pieces' numbers (h, w); nothing where nobody looked."""
        if box not in self._digests:
            return np.zeros((box.height, box.width), dtype=np.uint32)
        return self._get(box, "labels")["labels"]

    def seams(self, box: Box) -> Seams:
        """What joins the pieces to those of other regions."""
        return Seams.from_arrays(self._get(box, "seams"))

    def pieces(self, box: Box) -> Pieces:
        """What was measured of them."""
        return Pieces.from_arrays(self._get(box, "pieces"))

    @cached_property
    def _digests(self) -> dict[Box, Json]:
        with self._context.sessions() as session:
            done = blocks.results_of_image(session, self._image, Stage.LABEL)
        return {Box(*spec["box"]): result for spec, result in done}

    def _get(self, box: Box, name: str) -> dict[str, NDArray[Any]]:
        digest = self._digests[box][name]
        return unpack(self._context.storage.get_verified(self._key(box, name), sha256=digest))

    def _key(self, box: Box, name: str) -> str:
        return image_key(self._image.job_id, self._image.id, f"{FOLDER}/{box.top}-{box.left}/{name}")


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays by name as one object: a header, and each array compressed."""
    bodies = [
        bytes(imagecodecs.zstd_encode(np.ascontiguousarray(array).tobytes(), level=LEVEL)) for array in arrays.values()
    ]
    described = [
        {"name": name, "dtype": array.dtype.str, "shape": array.shape, "bytes": len(body)}
        for (name, array), body in zip(arrays.items(), bodies, strict=True)
    ]
    header = json.dumps(described).encode()
    return b"".join([LENGTH.pack(len(header)), header, *bodies])


def unpack(content: bytes) -> dict[str, NDArray[Any]]:
    """What `pack` wrote."""
    (length,) = LENGTH.unpack_from(content)
    start = LENGTH.size + length
    arrays = dict[str, NDArray[Any]]()
    for each in json.loads(content[LENGTH.size : start]):
        body = imagecodecs.zstd_decode(content[start : start + each["bytes"]])
        arrays[each["name"]] = np.frombuffer(body, dtype=each["dtype"]).reshape(each["shape"])
        start += each["bytes"]
    return arrays
