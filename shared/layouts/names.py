"""What names of files and folders mean, by the conventions that labs follow."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from shared.layouts.entries import Split

Role = Literal["image", "mask", "classes"]

RASTERS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".btf")
SLIDES = (".svs", ".ndpi", ".scn", ".bif", ".mrxs", ".vms", ".vmu", ".svslide", ".dcm", ".dicom")
FOLDERS = (".zarr", ".zarr.zip", ".ozx")
IMAGES = (*RASTERS, *SLIDES, *FOLDERS)
MASKS = (*RASTERS, ".npy")
STACKS = (".tif", ".tiff", ".btf")
ARRAYS = (".npy",)

ROLES: dict[str, Role] = {
    **dict.fromkeys(("image", "images", "img", "imgs", "raw", "input", "inputs", "tissue_images"), "image"),
    **dict.fromkeys(("mask", "masks", "label", "labels", "gt", "groundtruth", "ground_truth", "ground-truth"), "mask"),
    **dict.fromkeys(("truth", "annotation", "annotations", "instances", "inst", "seg", "segmentation"), "mask"),
    **dict.fromkeys(("class", "classes", "type", "types", "semantic"), "classes"),
}
SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_ENDINGS: tuple[tuple[re.Pattern[str], Role], ...] = (
    (re.compile(r"[ _.-](cp_masks?|masks?|labels?|gt|inst|instances|seg|segmentation|annotations?)$", re.I), "mask"),
    (re.compile(r"[ _.-](class|classes|types?)$", re.I), "classes"),
    (re.compile(r"[ _.-](img|image|raw)$", re.I), "image"),
)
_GRID = re.compile(r"^(?P<source>.+?)[ _.-](?:(?:r|row|y)\d+[ _.-]?(?:c|col|x)\d+|x\d+[ _.-]?y\d+)$", re.I)
_LAST_WORD = re.compile(r"^(?P<rest>.+)[ _.-](?P<word>[A-Za-z]+)$")
_NUMBERED = re.compile(r"^(?P<source>.*[^ _.-])[ _.-]\d+$")
_LITTER = {
    "thumbs.db": "Windows wrote it for itself",
    "desktop.ini": "Windows wrote it for itself",
    ".ds_store": "macOS wrote it for itself",
}


def parent(name: str) -> str:
    """The folder that a file lies in, "" for none."""
    return name.rpartition("/")[0]


def base(name: str) -> str:
    """The last part of a path."""
    return name.rpartition("/")[2]


def suffix(name: str) -> str:
    """The suffix in small letters, "" for none; `.zarr.zip` counts as one."""
    last = base(name).lower().lstrip(".")
    if "." not in last:
        return ""
    return ".zarr.zip" if last.endswith(".zarr.zip") else f".{last.rpartition('.')[2]}"


def stem(name: str) -> str:
    """The file's name without folder and suffix; `.ome` before a suffix belongs to it."""
    last = base(name)
    cut = last[: len(last) - len(suffix(name))]
    return cut[:-4] if cut.lower().endswith(".ome") else cut


def is_image(name: str) -> bool:
    """Whether the suffix is that of a format that is read as an image."""
    return suffix(name) in IMAGES


def litter(name: str) -> str | None:
    """Why a file is no part of anybody's data, None if it may be."""
    parts = name.split("/")
    if "__MACOSX" in parts or parts[-1].startswith("._"):
        return "macOS wrote it for itself into the archive"
    known = _LITTER.get(parts[-1].lower())
    if known is not None:
        return known
    hidden = next((part for part in parts if part.startswith(".")), None)
    return f"{hidden} is hidden" if hidden is not None else None


def role(name: str) -> Role | None:
    """What the innermost folder that is named after a role says about the file."""
    return next((found for folder in reversed(name.split("/")[:-1]) if (found := _read_folder(folder)[1])), None)


def is_truth(name: str) -> bool:
    """Whether its folder, its own name or its suffix says that a file holds masks or outlines."""
    said = role(name) or ending(stem(name))[1]
    return litter(name) is None and (said in ("mask", "classes") or suffix(name) == ".geojson")


def without_role(name: str) -> str:
    """The file's folder without the innermost part that is named after a role: where image and mask meet."""
    folders = name.split("/")[:-1]
    for index in reversed(range(len(folders))):
        rest, found = _read_folder(folders[index])
        if found is not None:
            return "/".join([*folders[:index], *([rest] if rest else []), *folders[index + 1 :]])
    return "/".join(folders)


@lru_cache(maxsize=10_000)
def _read_folder(folder: str) -> tuple[str, Role | None]:
    """`masks` → ("", "mask"), `train_masks` → ("train", "mask"), `kidney` → ("kidney", None)."""
    if folder.lower() in ROLES:
        return "", ROLES[folder.lower()]
    words = _LAST_WORD.match(folder)
    if words is not None and words["word"].lower() in ROLES:
        return words["rest"], ROLES[words["word"].lower()]
    return folder, None


@lru_cache(maxsize=100_000)
def ending(text: str) -> tuple[str, Role | None]:
    """`cells_mask` → ("cells", "mask"); a stem that ends in no role is given back as it is, with None."""
    for pattern, found in _ENDINGS:
        cut = pattern.sub("", text)
        if cut != text and cut:
            return cut, found
    return text, None


def split_of(name: str) -> Split | None:
    """The split by the innermost folder that is named after one."""
    for folder in reversed(name.split("/")[:-1]):
        for word in (folder, _read_folder(folder)[0]):
            if word.lower() in SPLITS:
                return SPLITS[word.lower()]
    return None


def split_in(text: str) -> Split | None:
    """The split that a file's own name speaks of, as `instances_train2017` and `test-volume` do."""
    words = re.split(r"[^a-z]+", text.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def neutral_folder(name: str) -> str:
    """The file's folder without parts that are named after a role or a split."""
    left = (_read_folder(folder)[0] for folder in name.split("/")[:-1])
    return "/".join(folder for folder in left if folder and folder.lower() not in SPLITS)


def find_groups(names: Sequence[str]) -> dict[str, str]:
    """Image name → what it was cut from, for those of patches named after their source.

    `slide_r0_c3` and `slide_x0_y96` come from `slide`. With plain numbers, `slide7_2_13` and `slide7_2` come from
    `slide7`: up to two numbers are taken off, as long as a digit is left, since in `image_7` the number is the image.
    A source counts if it has two images and is not the only one: otherwise the names number images.
    """
    sources = {name: source for name in names if (source := _source(stem(name))) is not None}
    full = {name: "/".join(filter(None, (neutral_folder(name), source))) for name, source in sources.items()}
    sizes = Counter(full.values())
    if len(sizes) < 2:
        return {}
    return {name: source for name, source in full.items() if sizes[source] > 1}


def _source(text: str) -> str | None:
    grid = _GRID.match(text)
    if grid is not None:
        return grid["source"]
    found = None
    for _ in range(2):
        match = _NUMBERED.match(text)
        if match is None or not any(letter.isdigit() for letter in match["source"]):
            break
        found = text = match["source"]
    return found


def count(number: int, what: str) -> str:
    """`3 images`, `1 image`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
