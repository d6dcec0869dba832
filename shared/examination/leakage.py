"""What a training and a test split have in common, though they should not: scores would be better than the model is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from shared.examination.abutment import Abutment
from shared.examination.duplicates import Duplicates
from shared.examination.portraits import join

LeakKind = Literal["same_image", "near_duplicate", "abutting", "same_group", "same_source"]


@dataclass(frozen=True)
class Membership:
    """Where an image belongs. None where nobody said."""

    split: str | None = None
    group: str | None = None  # a patient, a plate: what must not be parted
    source: str | None = None  # the file, or the larger image, that it was cut from


@dataclass(frozen=True)
class Leak:
    """Two images, by their number, that link two splits. Of a group or source that does, one pair stands for all."""

    kind: LeakKind
    first: int
    second: int
    splits: tuple[str, str]  # of the first and of the second
    shared: str | None = None  # name of the group or source
    images: int = 2  # that are involved
    similarity: float | None = None  # 0 … 1, of near duplicates and abutting tiles


def find_leaks(memberships: Sequence[Membership], duplicates: Duplicates, abutments: Sequence[Abutment]) -> list[Leak]:
    """Pairs in different splits, the gravest kind first, each pair under one kind. Images of no split leak nothing."""
    found: dict[tuple[int, int], Leak] = {}
    for leak in _list_leaks(memberships, duplicates, abutments):
        found.setdefault((min(leak.first, leak.second), max(leak.first, leak.second)), leak)
    return list(found.values())


def find_related(duplicates: Duplicates, abutments: Sequence[Abutment]) -> Iterator[tuple[int, int]]:
    """Of each image that a split must not part from others its number, and that of the first of them."""
    chains = [(numbers[0], number) for numbers in duplicates.same for number in numbers]
    near = [(pair.first, pair.second) for pair in duplicates.near]
    for numbers in join([*chains, *near, *((pair.first, pair.second) for pair in abutments)]):
        for number in numbers:
            yield number, numbers[0]


def _list_leaks(
    memberships: Sequence[Membership], duplicates: Duplicates, abutments: Sequence[Abutment]
) -> Iterator[Leak]:
    splits = [membership.split for membership in memberships]
    for numbers in duplicates.same:
        yield from _part("same_image", numbers, splits)
    equals = {numbers[0]: numbers for numbers in duplicates.same}
    for pair in duplicates.near:
        for first, second in _meet(
            equals.get(pair.first, (pair.first,)), equals.get(pair.second, (pair.second,)), splits
        ):
            yield _link("near_duplicate", first, second, splits, similarity=pair.similarity)
    for abutment in abutments:
        for first, second in _meet(
            equals.get(abutment.first, (abutment.first,)), equals.get(abutment.second, (abutment.second,)), splits
        ):
            yield _link("abutting", first, second, splits, similarity=abutment.concordance)
    yield from _share("same_group", [membership.group for membership in memberships], splits)
    yield from _share("same_source", [membership.source for membership in memberships], splits)


def _link(
    kind: LeakKind, first: int, second: int, splits: Sequence[str | None], similarity: float | None = None
) -> Leak:
    return Leak(kind, first, second, (str(splits[first]), str(splits[second])), similarity=similarity)


def _meet(ones: Sequence[int], others: Sequence[int], splits: Sequence[str | None]) -> Iterator[tuple[int, int]]:
    """One pair of images for each pair of different splits among two sets that correspond."""
    first_of_one, first_of_other = _first_of_each(ones, splits), _first_of_each(others, splits)
    for split, first in first_of_one.items():
        for other, second in first_of_other.items():
            if split != other:
                yield first, second


def _part(
    kind: LeakKind, numbers: Sequence[int], splits: Sequence[str | None], shared: str | None = None
) -> Iterator[Leak]:
    """One leak for each two splits that have some of these images."""
    for (split, first), (other, second) in combinations(_first_of_each(numbers, splits).items(), 2):
        images = sum(splits[number] in {split, other} for number in numbers)
        yield Leak(kind, first, second, (split, other), shared, images)


def _first_of_each(numbers: Sequence[int], splits: Sequence[str | None]) -> dict[str, int]:
    """For each split the first of these images that is in it."""
    firsts: dict[str, int] = {}
    for number in numbers:
        split = splits[number]
        if split is not None:
            firsts.setdefault(split, number)
    return firsts


def _share(kind: LeakKind, names: Sequence[str | None], splits: Sequence[str | None]) -> Iterator[Leak]:
    """What bears one name in two splits."""
    members: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        if name is not None:
            members.setdefault(name, []).append(number)
    for name, numbers in members.items():
        yield from _part(kind, numbers, splits, name)
