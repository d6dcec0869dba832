"""The image in an OME-Zarr (NGFF 0.1 to 0.5): its resolutions, channels and scale, as the metadata tell them.

Its labels are images of their own, one to each name in `labels/.zattrs` or `labels/zarr.json`: `read_image(files,
"labels/<name>")` gives them, and `ZarrImage.read` their numbers as they are.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared.imaging.normalisation import Samples, Window
from shared.imaging.tiling import Box
from shared.slides.slide import believable_mpp
from shared.slides.zarr_arrays import ChunkedArray
from shared.slides.zarr_files import ZarrFiles, is_safe
from shared.slides.zarr_metadata import describe, read_document

FIVE = "tczyx"  # the axes of versions that did not name them
LEVELS = 32
NAME = 200  # characters of a channel's
MICROMETRES = {
    "angstrom": 1e-4,
    "nanometer": 1e-3,
    "nm": 1e-3,
    "micrometer": 1.0,
    "micron": 1.0,
    "um": 1.0,
    "µm": 1.0,
    "millimeter": 1e3,
    "mm": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
}


class Unsuited(ValueError):
    """It is well formed, but no image that can be taken; the text says why, and the mend."""


@dataclass(frozen=True)
class ZarrImage:
    """A multiscale image. `axes`: a letter each. `folder`: of full resolution.

    `names` and `windows` (what is displayed) of its channels: one each, or none where the file does not say.
    """

    axes: str
    levels: tuple[ChunkedArray, ...]
    folder: str
    names: tuple[str, ...]
    windows: tuple[Window | None, ...]
    mpp: float | None

    @property
    def number(self) -> np.dtype[Any]:
        """Type of its samples."""
        return self.levels[0].about.number

    def length(self, axis: str, level: int = 0) -> int:
        """Entries along an axis, 1 if there is none of that name."""
        return self.levels[level].about.shape[self.axes.index(axis)] if axis in self.axes else 1

    def tile(self, level: int) -> tuple[int, int]:
        """(height, width) of a chunk, px."""
        chunk = self.levels[level].about.chunk
        return chunk[self.axes.index("y")], chunk[self.axes.index("x")]

    def read(self, box: Box, level: int, channels: tuple[int, int]) -> Samples:
        """Samples (box.height, box.width, channels) of a box inside a level, of the channels from … up to.

        Raises:
            inflating.DAMAGE: a chunk is damaged.
        """
        spans = {"y": (box.top, box.bottom), "x": (box.left, box.right), "c": channels}
        starts, stops = zip(*(spans.get(axis, (0, 1)) for axis in self.axes), strict=True)
        region = self.levels[level].read(starts, stops)
        kept = [self.axes.index(axis) for axis in "yxc" if axis in self.axes]
        rest = [index for index in range(len(self.axes)) if index not in kept]
        samples = region.transpose(*kept, *rest)
        return samples.reshape(box.height, box.width, -1)


def read_image(files: ZarrFiles, path: str = "") -> ZarrImage:
    """The image whose metadata lie under `path`.

    Raises:
        Unsuited: it is no single plane, or none of what is known.
        ValueError: the metadata contradict themselves.
    """
    about = _attributes(files, path)
    multiscale = _first(about, "multiscales")
    if multiscale is None:
        raise Unsuited(_say_why_none(files, about))
    axes, units = _axes(multiscale)
    folders = _folders(path, multiscale)
    levels = _levels(files, folders, axes)
    for axis, length in zip(axes, levels[0].about.shape, strict=True):
        if axis in "tz" and length > 1:
            raise Unsuited(f"a stack of {length} planes (axis {axis}); submit each plane as an image of its own")
    count = levels[0].about.shape[axes.index("c")] if "c" in axes else 1
    names, windows = _channels(about, count)
    return ZarrImage(axes, levels, folders[0], names, windows, _find_mpp(multiscale, axes, units))


def _attributes(files: ZarrFiles, path: str) -> Mapping[str, Any]:
    """What NGFF says, wherever its version puts it."""
    top = f"{path}/" if path else ""
    document = read_document(files, f"{top}zarr.json")
    if document is not None:
        attributes = _object(document.get("attributes"))
        return _object(attributes.get("ome")) or attributes
    return read_document(files, f"{top}.zattrs") or {}


def _say_why_none(files: ZarrFiles, about: Mapping[str, Any]) -> str:
    if "plate" in about or "well" in about:
        return "a plate of many images; submit each field's OME-Zarr as an image of its own"
    if "bioformats2raw.layout" in about or files.size("OME/METADATA.ome.xml") is not None:
        return "a collection of images; submit each of its folders 0, 1, … as an image of its own"
    return "a Zarr without the metadata of an OME-Zarr (multiscales); write it as OME-Zarr"


def _axes(multiscale: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The axes' letters, and the units of those that have one."""
    listed = multiscale.get("axes")
    if listed is None:
        return FIVE, {}
    if not isinstance(listed, list):
        raise ValueError("its axes are no list")  # noqa: TRY004  # the file is wrong, not the caller
    named = [axis if isinstance(axis, dict) else {"name": axis} for axis in listed]
    names = [axis.get("name") for axis in named]
    known = len(set(map(str, names))) == len(names) and all(name in tuple(FIVE) for name in names)
    if not known or not {"y", "x"} <= set(names):
        raise Unsuited(f"axes {', '.join(map(str, names))}; an image has y and x, and t, c and z besides")
    return "".join(map(str, names)), {str(axis["name"]): axis.get("unit") for axis in named}


def _folders(path: str, multiscale: Mapping[str, Any]) -> list[str]:
    """Where the arrays of its resolutions lie."""
    datasets = multiscale.get("datasets")
    if not isinstance(datasets, list) or not 1 <= len(datasets) <= LEVELS:
        raise ValueError("it lists no resolutions, or too many")
    folders = []
    for dataset in datasets:
        folder = _object(dataset).get("path")
        if not isinstance(folder, str) or not is_safe(folder):
            raise ValueError(f"a resolution lies under {folder!r}")
        folders.append(f"{path}/{folder}" if path else folder)
    return folders


def _levels(files: ZarrFiles, folders: list[str], axes: str) -> tuple[ChunkedArray, ...]:
    """Its resolutions, the largest first; those that do not show the same image are left out."""
    levels = [ChunkedArray(files, folder, describe(files, folder)) for folder in folders]
    if len(levels[0].about.shape) != len(axes):
        raise ValueError(f"its axes are {axes}, its shape {levels[0].about.shape}")
    kept = levels[:1]
    for level in levels[1:]:
        if _is_smaller(level, kept[-1], axes):
            kept.append(level)
    return tuple(kept)


def _is_smaller(level: ChunkedArray, larger: ChunkedArray, axes: str) -> bool:
    """Whether a level shows the same as a larger one, in fewer pixels."""
    shape, beside = level.about.shape, larger.about.shape
    if len(shape) != len(beside) or level.about.number != larger.about.number:
        return False
    y, x = axes.index("y"), axes.index("x")
    others = all(a == b for axis, a, b in zip(axes, shape, beside, strict=True) if axis not in "yxz")
    if not others or shape[y] > beside[y] or shape[x] > beside[x]:
        return False
    factor = max(beside[y] / shape[y], beside[x] / shape[x])
    return abs(beside[y] / factor - shape[y]) <= 2 and abs(beside[x] / factor - shape[x]) <= 2  # rounded up or down


def _channels(about: Mapping[str, Any], count: int) -> tuple[tuple[str, ...], tuple[Window | None, ...]]:
    """Names and display windows, none if the file does not list so many channels."""
    listed = _object(about.get("omero")).get("channels")
    if not isinstance(listed, list) or len(listed) != count:
        return (), ()
    told = [_object(channel) for channel in listed]
    names = tuple(str(channel.get("label") or f"channel {number}")[:NAME] for number, channel in enumerate(told, 1))
    return names, tuple(_window(channel.get("window")) for channel in told)


def _window(told: Any) -> Window | None:
    span = _object(told)
    low, high = _finite(span.get("start")), _finite(span.get("end"))
    return Window(low, high) if low is not None and high is not None and low < high else None


def _find_mpp(multiscale: Mapping[str, Any], axes: str, units: Mapping[str, Any]) -> float | None:
    """µm per pixel along x at full resolution: the scale of the first resolution, times that of all of them."""
    unit = MICROMETRES.get(str(units.get("x")))
    scale = _scale(_first(multiscale, "datasets"), axes)
    if unit is None or scale is None:
        return None
    return believable_mpp(scale * (_scale(multiscale, axes) or 1.0) * unit)


def _scale(holder: Mapping[str, Any] | None, axes: str) -> float | None:
    """Along x, by the transformations that something lists."""
    listed = (holder or {}).get("coordinateTransformations")
    for transformation in listed if isinstance(listed, list) else []:
        scale = _object(transformation).get("scale")
        if isinstance(scale, list) and len(scale) == len(axes):
            return _finite(scale[axes.index("x")])
    return None


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < 1e300 and math.isfinite(value) else None


def _first(holder: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    listed = holder.get(key)
    return listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], dict) else None


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
