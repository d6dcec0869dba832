"""Which images are learnt from, and which are kept to validate with."""

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from services.trainer.data.samples import Sample
from shared.errors import Rejected
from shared.schemas.training import DatasetSplit, GroupSplit, ListSplit, RatioSplit, SplitIn

_Sides = tuple[list[Sample], list[Sample]]


def split(samples: Sequence[Sample], how: SplitIn, *, seed: int) -> _Sides:
    """Training and validation samples, at least one each, every sample on one side.

    The same names and seed give the same split, whatever the order of the samples.

    Raises:
        Rejected: there are too few samples or sources for two sides, or a listed name is missing.
    """
    if len(samples) < 2:
        raise Rejected(f"training needs at least 2 images with masks, one of them to validate with; got {len(samples)}")
    by_name = sorted(samples, key=lambda sample: sample.name)
    match how:
        case RatioSplit():
            return _split_by_ratio(by_name, how, seed=seed)
        case GroupSplit():
            return _split_by_group(by_name, how, seed=seed)
        case ListSplit():
            return _split_by_list(by_name, how)
        case DatasetSplit():
            raise ValueError("a dataset's own split is a list by the time its images are there")


def find_source(name: str, how: GroupSplit) -> str:
    """The group an image belongs to: the first fields of its file's name, without folders and suffix."""
    return how.separator.join(PurePosixPath(name).stem.split(how.separator)[: how.fields])


def _split_by_ratio(samples: list[Sample], how: RatioSplit, *, seed: int) -> _Sides:
    held = min(max(round(how.fraction * len(samples)), 1), len(samples) - 1)
    shuffled = [samples[index] for index in np.random.default_rng(seed).permutation(len(samples))]
    return shuffled[held:], shuffled[:held]


def _split_by_group(samples: list[Sample], how: GroupSplit, *, seed: int) -> _Sides:
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(find_source(sample.name, how), []).append(sample)
    if len(groups) < 2:
        raise Rejected(
            f"all images are of one source, {next(iter(groups))}, by the first {how.fields} part(s) of their names: "
            "set other fields or another separator, or split by ratio"
        )
    sources = sorted(groups)
    shuffled = [sources[index] for index in np.random.default_rng(seed).permutation(len(sources))]
    held = _choose([len(groups[source]) for source in shuffled], wanted=how.fraction * len(samples))
    sides: _Sides = ([], [])
    for index, source in enumerate(shuffled):
        sides[index in held].extend(groups[source])
    return sides


def _choose(sizes: list[int], *, wanted: float) -> set[int]:
    """Some of the groups, neither none nor all, that together have about as many images as wanted."""
    chosen: set[int] = set()
    total = 0
    for index, size in enumerate(sizes):
        if abs(total + size - wanted) < abs(total - wanted):
            chosen.add(index)
            total += size
    if not chosen:
        chosen.add(int(np.argmin(sizes)))
    elif len(chosen) == len(sizes):
        chosen.remove(int(np.argmin(sizes)))
    return chosen


def _split_by_list(samples: list[Sample], how: ListSplit) -> _Sides:
    listed, known = set(how.validation), {sample.name for sample in samples}
    for name in how.validation:
        if name not in known:
            raise Rejected(f"{name}: the split lists this image, but none of the images with masks is called so")
    if listed == known:
        raise Rejected("the split lists all images for validation: leave some out of the list to learn from")
    return [s for s in samples if s.name not in listed], [s for s in samples if s.name in listed]
