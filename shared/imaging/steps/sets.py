"""Which images of a set train, which validate, which test: by names and groups alone, no pixels."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol

from shared.errors import Rejected

Split = Literal["train", "validation", "test"]
OTHERS: tuple[Split, Split] = ("validation", "test")


class Asked(Protocol):
    """How a set is split, as `shared.schemas.step_kinds.SplitStep` says it."""

    @property
    def by(self) -> Literal["ratio", "list", "group"]:
        """By shares, by the names of images, or by the names of groups."""
        ...

    @property
    def validation(self) -> float:
        """Share of the images."""
        ...

    @property
    def test(self) -> float:
        """Share of the images."""
        ...

    @property
    def seed(self) -> int:
        """Of the order in which groups are taken."""
        ...

    @property
    def validation_names(self) -> Sequence[str]:
        """Of images or of groups."""
        ...

    @property
    def test_names(self) -> Sequence[str]:
        """Of images or of groups."""
        ...


def split(
    names: Sequence[str], groups: Mapping[str, str | None], step: Asked, alike: Iterable[Sequence[str]] = ()
) -> dict[str, Split]:
    """For each image its part. Images of one group share it; an image without a group is one by itself.

    `alike`: sets of names of images whose groups, too, are to share it; no image is in two of them.

    By ratio, groups in an order that hashes of the seed and their names give are taken for validation, then for test,
    until each has its share of the images, to the nearest image; at least one group is left to train, and one
    validates if any is to. The same names and groups give the same parts, in whatever order they come.

    Raises:
        Rejected: a listed name is none of these, or a list parts a group; there is nothing left to train on.
    """
    members: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in sorted(names):
        members[_group_of(name, groups)].append(name)
    for each in alike:
        first, *others = sorted({_group_of(name, groups) for name in each})
        for other in others:
            members[first] += members.pop(other)
    parts = _split_by_ratio(members, step) if step.by == "ratio" else _split_by_list(members, groups, step)
    if parts and "train" not in parts.values():
        raise Rejected("split: nothing is left to train on; name or take fewer images for validation and test")
    return {name: parts[group] for group, each in members.items() for name in each}


def _group_of(name: str, groups: Mapping[str, str | None]) -> tuple[str, str]:
    """No image's name is taken for that of a group."""
    group = groups.get(name)
    return ("image", name) if group is None else ("group", group)


def _split_by_ratio(members: Mapping[tuple[str, str], list[str]], step: Asked) -> dict[tuple[str, str], Split]:
    order = sorted(members, key=lambda group: hashlib.sha256(f"{step.seed} {group[0]} {group[1]}".encode()).digest())
    parts: dict[tuple[str, str], Split] = {}
    total = sum(len(each) for each in members.values())
    for part, share in zip(OTHERS, (step.validation, step.test), strict=True):
        taken = 0
        for group in order:
            is_needed = share > 0 and (taken == 0 or taken + len(members[group]) / 2 <= share * total)
            if group in parts or not is_needed or len(parts) == len(members) - 1:
                continue
            parts[group] = part
            taken += len(members[group])
    return {group: parts.get(group, "train") for group in members}


def _split_by_list(
    members: Mapping[tuple[str, str], list[str]], groups: Mapping[str, str | None], step: Asked
) -> dict[tuple[str, str], Split]:
    listed: dict[str, Split] = dict.fromkeys(step.validation_names, "validation")
    listed |= dict.fromkeys(step.test_names, "test")
    parts: dict[tuple[str, str], Split] = {}
    known: set[str] = set()
    for group, each in members.items():
        owners = {_group_of(name, groups) for name in each}
        keys = each if step.by == "list" else [name for _, name in owners]
        known.update(keys)
        found = {listed.get(key, "train") for key in keys}
        if len(found) > 1:
            raise _parted(group[1], each, alike=len(owners) > 1)
        (parts[group],) = found
    unknown = sorted(set(listed) - known)
    if unknown:
        what = "an image" if step.by == "list" else "a group"
        raise Rejected(f"split: {unknown[0]!r} is not the name of {what} of this version; correct the list")
    return parts


def _parted(group: str, names: Sequence[str], *, alike: bool) -> Rejected:
    """`alike`: the images are of several groups."""
    listed = ", ".join(names[:3])
    if alike:
        return Rejected(
            f"split: the list parts images that ingest found to be alike, or cut from one: {listed} … belong together; "
            "list all of them, or leave all but one out"
        )
    return Rejected(
        f"split: the list parts the group {group!r}: {listed} … belong together; list all of them, or split by group"
    )
