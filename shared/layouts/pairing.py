"""`images/a.png` and `masks/a.png`, or `a.png` and `a_mask.png`: images and masks that share a name."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from shared.layouts.entries import Arrangement, Contents, Entry, MaskKind
from shared.layouts.names import MASKS, Role, base, ending, is_image, parent, role, stem, suffix, without_role
from shared.layouts.parts import Files

INSTANCES = ("instances", "inst")  # words that say that each object has a number of its own
_Key = tuple[str, str]  # where image and mask meet, and the name that they share


def arrange_pairs(files: Files, contents: Contents) -> Arrangement:  # noqa: ARG001  # names tell all
    """Pair by name; folders and endings named after what they hold are left out of the comparison."""
    pictures = [name for name in files.names if is_image(name) or name in files.parts or suffix(name) in MASKS]
    places = {_key(name) for name in pictures if role(name) in (None, "image")}
    truths = {name: found for name in pictures if (found := _truth_role(name, places)) is not None}
    images = [name for name in pictures if name not in truths and (is_image(name) or name in files.parts)]
    index = _Index.of(images)
    taken: dict[tuple[str, Role], str] = {}
    ignored: list[tuple[str, str]] = []
    for name in sorted(truths, key=lambda truth: (index.rank(truth), truth)):
        image = index.find(name)
        if image is None:
            ignored.append((name, f"a mask without an image: no image is called {ending(stem(name))[0]}"))
        elif name in files.parts:
            ignored.append((name, "a mask must be one file"))
        elif taken.setdefault((image, truths[name]), name) != name:
            ignored.append((name, f"a second mask for {image}: {taken[image, truths[name]]} is taken"))
    entries = [_entry(image, taken.get((image, "mask")), taken.get((image, "classes"))) for image in images]
    return Arrangement(entries, ignored)


def _entry(image: str, mask: str | None, classes: str | None) -> Entry:
    """Classes beside instances tell their types; alone they are the mask."""
    if mask is not None:
        return Entry(image, image, masks=(mask,), mask_kind=_kind(mask), types=classes)
    if classes is not None:
        return Entry(image, image, masks=(classes,), mask_kind="classes")
    return Entry(image, image)


def _key(name: str) -> _Key:
    return without_role(name), stem(name)


def _truth_role(name: str, places: set[_Key]) -> Role | None:
    """What its folder, or its ending beside an image of the same name, says to be truth; None for an image."""
    found = role(name)
    if found in ("mask", "classes"):
        return found if suffix(name) != ".json" else None
    place, whole = _key(name)
    cut, said = ending(whole)
    if said in ("mask", "classes") and any((place, cut + more) in places for more in ("", "_img", "_image", "_raw")):
        return said
    return None


@dataclass
class _Index:
    """Images by what they may be called by their masks, the surest first."""

    exact: dict[_Key, str] = field(default_factory=dict)
    folded: dict[_Key, str] = field(default_factory=dict)  # whatever the case

    @classmethod
    def of(cls, images: Iterable[str]) -> "_Index":
        index = cls()
        for name in images:
            place, whole = _key(name)
            cut, said = ending(whole)
            for called in (whole, cut if said == "image" else whole):
                index.exact.setdefault((place, called), name)
                index.folded.setdefault((place.casefold(), called.casefold()), name)
        return index

    def find(self, truth: str) -> str | None:
        return next((image for image in self._candidates(truth) if image is not None), None)

    def rank(self, truth: str) -> int:
        """How many ways to read the name failed before one fitted."""
        return next((place for place, image in enumerate(self._candidates(truth)) if image is not None), 4)

    def _candidates(self, truth: str) -> Iterator[str | None]:
        place, whole = _key(truth)
        cut = ending(whole)[0]
        yield self.exact.get((place, whole))
        yield self.exact.get((place, cut))
        yield self.folded.get((place.casefold(), whole.casefold()))
        yield self.folded.get((place.casefold(), cut.casefold()))


def _kind(truth: str) -> MaskKind:
    words = (base(parent(truth)).lower(), stem(truth).lower().replace("-", "_").rpartition("_")[2])
    return "instances" if any(word in INSTANCES for word in words) else "auto"
