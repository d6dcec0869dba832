"""Which mask belongs to which image."""

from pathlib import Path

from shared.errors import Rejected


def find_pairs_in(images: Path, masks: Path) -> list[tuple[str, Path, Path]]:
    """(name, image file, mask file) for every file in the folder `images`, by name; hidden files are passed over.

    The mask of `cells.png` is the file `cells.*` in the folder `masks`. Masks without an image are left out.

    Raises:
        Rejected: there is no image, one has no mask, or two files of a folder differ in nothing but the suffix.
    """
    named, truth = _by_stem(images), _by_stem(masks)
    if not named:
        raise Rejected(f"{images}: there are no images in this folder")
    for stem, image in named.items():
        if stem not in truth:
            raise Rejected(f"{image.name}: the image has no mask; put one into {masks} as {stem}.png or {stem}.tif")
    return [(image.name, image, truth[stem]) for stem, image in named.items()]


def _by_stem(folder: Path) -> dict[str, Path]:
    """The files of a folder in the order of their names."""
    if not folder.is_dir():
        raise Rejected(f"{folder}: there is no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.stem in found:
            raise Rejected(f"{path.name}: {found[path.stem].name} in the same folder has this name, too; rename one")
        found[path.stem] = path
    return found
