"""What duplicates and leaks mean for each image, in words for its owner."""

from collections.abc import Iterator, Sequence

from shared.examination.duplicates import Duplicates
from shared.examination.leakage import Leak, LeakKind
from shared.schemas.manifests import Problem

MEND = "put both into one split, or leave one out"
LEAKS: dict[LeakKind, str] = {
    "same_image": "has the very pixels of {other}",
    "near_duplicate": "shows the same as {other}",
    "abutting": "goes on in {other}, both were probably cut from one image",
    "same_group": "is of the group {shared}, as is {other}",
    "same_source": "comes from {shared}, as does {other}",
}


def find_pair_problems(
    names: Sequence[str], duplicates: Duplicates, leaks: Sequence[Leak]
) -> Iterator[tuple[int, Problem]]:
    """Warnings by the number of the image they are about. `names`: what the user calls the images."""
    for numbers in duplicates.same:
        for number in numbers[1:]:
            text = f"{names[number]}: has the very pixels of {names[numbers[0]]}; leave one of them out"
            yield number, _warn("duplicate", text)
    for pair in duplicates.near:
        text = (
            f"{names[pair.second]}: shows the same as {names[pair.first]} ({pair.similarity:.1%} alike), perhaps "
            "compressed, brightened or turned, or a moment later; leave one out unless both are meant"
        )
        yield pair.second, _warn("near_duplicate", text)
    for leak in leaks:
        for number, other in ((leak.first, leak.second), (leak.second, leak.first)):
            yield number, describe_leak(leak, names[number], names[other], swapped=number == leak.second)


def describe_leak(leak: Leak, name: str, other: str, *, swapped: bool = False) -> Problem:
    """The warning about the image `name`, the first of the leak, or its second if `swapped`."""
    splits = leak.splits[::-1] if swapped else leak.splits
    reason = LEAKS[leak.kind].format(other=f"{other} ({splits[1]})", shared=leak.shared)
    text = f"{name} ({splits[0]}): {reason}; scores would be too good: {MEND}"
    return _warn(f"leak_{leak.kind}", text)


def _warn(code: str, text: str) -> Problem:
    return Problem(code=code, severity="warning", text=text)
