"""Which layout a dataset has, from nothing but the names of its files."""

from collections.abc import Iterable

from shared.errors import Rejected
from shared.layouts.arranging import ARRANGERS, arrange
from shared.layouts.entries import Arrangement, Detection, Layout
from shared.layouts.names import base, count, parent, stem, suffix
from shared.layouts.parts import gather

_FOUND = {
    Layout.PANNUKE: "images.npy with masks.npy",
    Layout.ISBI: "stacks called volume and labels",
    Layout.CTC: "frames with outlines in _GT/SEG or _ST/SEG",
    Layout.DSB2018: "a folder for each image, with a mask file for each object",
    Layout.GEOJSON: "a .geojson file for each image",
    Layout.IMAGES_MASKS: "masks with the names of their images",
    Layout.COCO: "images and a JSON file",
    Layout.PLAIN: "images, and nothing that could be their masks",
}


class _Unread:
    """Contents where nothing was read yet: every stack holds one image, and no JSON is known."""

    def pages(self, name: str) -> int:  # noqa: ARG002  # nothing of it is known
        return 1

    def text(self, name: str) -> bytes:
        """Stands for any file where the layout asks only that it be there."""
        if suffix(name) == ".geojson":
            return b""
        raise Rejected(f"{name}: not read yet")


def detect(names: Iterable[str]) -> Detection:
    """The layout by which most images have masks; of equals the more particular one. Any names give an answer.

    A JSON file among images that have no other masks means COCO: what it lists is known only after reading.
    """
    files = gather(names)
    masked = {layout: _count_masked(layout, find(files, _Unread())) for layout, find in ARRANGERS.items()}
    ranked = sorted((layout for layout in masked if masked[layout]), key=lambda layout: -masked[layout])
    if any(suffix(name) == ".json" for name in files.names):
        ranked.append(Layout.COCO)
    ranked.append(Layout.PLAIN)
    given = [*files.names, *(part for parts in files.parts.values() for part in parts)]
    images = len(arrange(ranked[0], given, _Unread()).entries)
    layout = ranked[0] if images else Layout.PLAIN
    return Detection(
        layout=layout,
        images=images,
        masked=None if layout is Layout.COCO else masked[layout],
        why=_explain(layout, images, masked[layout]),
        alternatives=tuple(ranked[1:]) if images else (),
    )


def _count_masked(layout: Layout, arrangement: Arrangement) -> int:
    """Images with a mask, as far as they speak for the layout."""
    masked = [entry for entry in arrangement.entries if entry.masks]
    if layout is Layout.DSB2018:  # an image in a folder of other names may be the only one of its dataset
        masked = [entry for entry in masked if stem(entry.image) == base(parent(parent(entry.image)))]
    return len(masked)


def _explain(layout: Layout, images: int, masked: int) -> str:
    if images == 0:
        return "no file has the suffix of an image format that is read"
    what = "stack" if layout in (Layout.ISBI, Layout.PANNUKE) else "image"
    if layout is Layout.PLAIN:
        return f"{count(images, 'image')}: {_FOUND[layout]}"
    if layout is Layout.COCO:
        return f"{count(images, 'image')}: {_FOUND[layout]}; which of them it describes is known after reading it"
    return f"{_FOUND[layout]}: {masked:,} of {count(images, what)} with masks"
