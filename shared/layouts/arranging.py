"""From the files of a dataset to its images, by one layout; no file disappears without a reason."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from shared.layouts.entries import Arrangement, Contents, Entry, Layout
from shared.layouts.folders import arrange_ctc, arrange_dsb
from shared.layouts.names import find_groups, is_image, role, split_of, suffix
from shared.layouts.pairing import arrange_pairs
from shared.layouts.parts import Files, gather
from shared.layouts.polygons import arrange_coco, arrange_geojson
from shared.layouts.stacks import arrange_isbi, arrange_pannuke

ARRANGERS: dict[Layout, Callable[[Files, Contents], Arrangement]] = {
    Layout.PANNUKE: arrange_pannuke,
    Layout.ISBI: arrange_isbi,
    Layout.CTC: arrange_ctc,
    Layout.DSB2018: arrange_dsb,
    Layout.GEOJSON: arrange_geojson,
    Layout.IMAGES_MASKS: arrange_pairs,
    Layout.COCO: arrange_coco,
    Layout.PLAIN: lambda files, contents: Arrangement([]),  # noqa: ARG005  # what no layout claims is a plain image
}


def arrange(layout: Layout, names: Iterable[str], contents: Contents) -> Arrangement:
    """The images of a dataset, sorted by name. Each file is used by an image or ignored with a reason.

    `names`: relative paths. Images that the layout has no place for become images without masks. What `contents`
    rejects is ignored, with its reason.
    """
    files = gather(names)
    found = ARRANGERS[layout](files, contents)
    used = {name for entry in found.entries for name in (entry.image, *entry.mask_files)}
    reasons = {name: reason for name, reason in found.ignored if name not in used}
    left = [name for name in files.names if name not in used and name not in reasons]
    images = _find_plain(left, files)
    plain = [Entry(name, name) for name in left if name in images]
    reasons |= {name: _reason(name, layout) for name in left if name not in images}
    entries = [_complete(entry, files) for entry in (*found.entries, *plain)]
    return replace(
        found,
        entries=_group(_tell_apart(sorted(entries, key=lambda entry: entry.name))),
        ignored=sorted([*files.litter.items(), *_spread(reasons, files)]),
    )


def _find_plain(names: Sequence[str], files: Files) -> set[str]:
    """Images that no mask belongs to. Where all lie in folders named after masks, these names mean something else."""
    pictures = {name for name in files.names if is_image(name) or name in files.parts}
    outside = {name for name in pictures if role(name) not in ("mask", "classes")}
    return (outside or pictures).intersection(names)


def _reason(name: str, layout: Layout) -> str:
    """Why a file is neither an image nor used by one."""
    if role(name) in ("mask", "classes"):
        return f"it lies in a folder of masks, where the layout {layout} finds none: choose another layout if it is one"
    if suffix(name) in (".json", ".geojson"):
        return f"JSON, which the layout {layout} does not read: choose coco or geojson if it holds polygons"
    if suffix(name) == ".npy":
        return f"an array, which the layout {layout} does not read: choose pannuke if it holds patches"
    return f"{suffix(name) or 'a file without suffix'} is no format of images or masks that is read"


def _complete(entry: Entry, files: Files) -> Entry:
    """With what every layout has in common: parts of the image, and the split that its folders name."""
    return replace(entry, parts=files.parts.get(entry.image, ()), split=entry.split or split_of(entry.image))


def _spread(reasons: dict[str, str], files: Files) -> list[tuple[str, str]]:
    """A reason for an image of several files is one for each of these."""
    spread: dict[str, str] = {}
    for name, reason in reasons.items():
        parts = files.parts.get(name, ())
        is_folder = all(part.startswith(f"{name}/") for part in parts) and bool(parts)
        spread |= dict.fromkeys(parts if is_folder else (name, *parts), reason)
    return list(spread.items())


def _tell_apart(entries: Sequence[Entry]) -> list[Entry]:
    """The same with a number after names that would stand twice."""
    taken: set[str] = {entry.name for entry in entries}
    seen: set[str] = set()
    told: list[Entry] = []
    for entry in entries:
        name, number = entry.name, 2
        while name in seen or (name != entry.name and name in taken):
            name, number = f"{entry.name}~{number}", number + 1
        seen.add(name)
        told.append(entry if name == entry.name else entry.named(name))
    return told


def _group(entries: Sequence[Entry]) -> list[Entry]:
    """With the group by name where the layout gave none."""
    groups = find_groups([entry.image for entry in entries if entry.group is None and entry.page is None])
    return [entry if entry.group else replace(entry, group=groups.get(entry.image)) for entry in entries]
