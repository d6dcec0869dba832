"""What an arrangement consists of: the images of a dataset, each with the files it and its mask are made of."""

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, Protocol, Self

MaskKind = Literal["auto", "instances", "binary", "classes", "merge", "pannuke", "coco", "geojson"]
OUTLINES = frozenset({"coco", "geojson"})  # kinds of masks whose files list objects one by one
Split = Literal["train", "validation", "test"]


class Layout(StrEnum):
    """How a lab lays out images and masks in folders."""

    IMAGES_MASKS = "images_masks"  # images/a.png + masks/a.png, or a.png + a_mask.png
    DSB2018 = "dsb2018"  # x/images/x.png + x/masks/*.png, a file for each object
    ISBI = "isbi"  # train-volume.tif + train-labels.tif, a page for each image
    CTC = "ctc"  # 01/t000.tif + 01_GT/SEG/man_seg000.tif
    PANNUKE = "pannuke"  # images.npy + masks.npy, arrays of patches
    COCO = "coco"  # images + JSON that lists polygons or run lengths
    GEOJSON = "geojson"  # x.svs + x.geojson
    PLAIN = "plain"  # images without masks


class Contents(Protocol):
    """What the names of files do not tell. Both raise Rejected for a file that is damaged or too large."""

    def pages(self, name: str) -> int:
        """How many images a multi-page TIFF or an array holds."""
        ...

    def text(self, name: str) -> bytes:
        """The whole of a JSON file."""
        ...


@dataclass(frozen=True)
class Entry:
    """An image of a dataset, the files it is made of, and those that hold its mask."""

    name: str  # unique in the dataset; the image's file name, with the page after it for one of many in a file
    image: str  # its file; or its folder, and then `parts` are all files in it
    page: int | None = None  # index within a stack or an array
    parts: tuple[str, ...] = ()  # further files that the image is made of
    masks: tuple[str, ...] = ()  # none: the image has no mask
    mask_page: int | None = None
    mask_kind: MaskKind = "auto"
    types: str | None = None  # a second mask, with the class of each pixel
    split: Split | None = None
    group: str | None = None  # what it was taken from; images of one group belong on one side of a split
    reference: str | None = None  # what a COCO file calls the image: its id there
    background: int | None = None  # number of the background of a binary mask, if it is not 0

    @property
    def is_folder(self) -> bool:
        """Whether `image` names a folder, such as an OME-Zarr."""
        return bool(self.parts) and all(part.startswith(f"{self.image}/") for part in self.parts)

    @property
    def image_files(self) -> tuple[str, ...]:
        """All files that the image itself is made of."""
        return self.parts if self.is_folder else (self.image, *self.parts)

    @property
    def mask_files(self) -> tuple[str, ...]:
        """All files that its truth is made of."""
        return (*self.masks, *((self.types,) if self.types else ()))

    @property
    def files(self) -> tuple[str, ...]:
        """All files that it is made of."""
        return (*self.image_files, *self.mask_files)

    def as_json(self) -> dict[str, Any]:
        """As `of_json` takes it, without what is not there."""
        return {key: value for key, value in asdict(self).items() if value not in (None, ())}

    @classmethod
    def of_json(cls, fields: dict[str, Any]) -> Self:
        """The entry that `as_json` gave, also after lists have taken the place of tuples."""
        lists: dict[str, Any] = {key: tuple(fields[key]) for key in ("parts", "masks") if key in fields}
        return cls(**{**fields, **lists})

    def named(self, name: str) -> Self:
        """The same under another name."""
        return replace(self, name=name)


@dataclass(frozen=True)
class Arrangement:
    """The images of a dataset, and why files are left out."""

    entries: list[Entry]
    ignored: list[tuple[str, str]] = field(default_factory=list)  # (file name, reason), each file no entry uses
    notes: list[str] = field(default_factory=list)  # what else its owner should know
    classes: tuple[str, ...] = ()  # names of the classes 1, 2, … where annotation files name them


@dataclass(frozen=True)
class Detection:
    """The layout that names of files suggest."""

    layout: Layout
    images: int  # a stack or an array counts once: how many it holds is known only after reading
    masked: int | None  # None where that, too, is known only after reading
    why: str
    alternatives: tuple[Layout, ...] = ()  # others that would find images, the likeliest first
