"""What two splits have in common, and what is said about it."""

from hypothesis import given
from hypothesis import strategies as st

from shared.examination.abutment import Abutment
from shared.examination.duplicates import Duplicates, NearPair
from shared.examination.findings import find_pair_problems
from shared.examination.leakage import Leak, Membership, find_leaks, find_related

NOTHING = Duplicates([], [])
SPLITS = st.sampled_from(["train", "validation", "test", None])


def members(*splits: str | None) -> list[Membership]:
    return [Membership(split) for split in splits]


def test_the_same_image_in_two_splits_leaks() -> None:
    found = find_leaks(members("train", "train", "test"), Duplicates([(0, 1, 2)], []), [])
    assert found == [Leak("same_image", 0, 2, ("train", "test"), images=3)]


def test_the_same_image_within_a_split_leaks_nothing() -> None:
    assert find_leaks(members("train", "train"), Duplicates([(0, 1)], [NearPair(0, 1, 0.99)]), []) == []


def test_images_of_no_split_leak_nothing() -> None:
    assert find_leaks(members(None, "test"), Duplicates([(0, 1)], []), []) == []


def test_a_near_duplicate_leaks_through_a_copy_of_it() -> None:
    duplicates = Duplicates([(0, 2)], [NearPair(0, 1, 0.98)])
    found = find_leaks(members("train", "train", "test"), duplicates, [])
    assert [(leak.kind, leak.first, leak.second) for leak in found] == [("same_image", 0, 2), ("near_duplicate", 2, 1)]


def test_neighbouring_tiles_in_two_splits_leak() -> None:
    [leak] = find_leaks(members("train", "test"), NOTHING, [Abutment(0, 1, "right", 0.95)])
    assert (leak.kind, leak.similarity) == ("abutting", 0.95)


def test_a_pair_is_told_once_under_its_gravest_kind() -> None:
    memberships = [Membership("train", group="patient 1"), Membership("test", group="patient 1")]
    [leak] = find_leaks(memberships, Duplicates([], [NearPair(0, 1, 0.98)]), [Abutment(0, 1, "right", 0.95)])
    assert leak.kind == "near_duplicate"


def test_a_group_in_two_splits_is_told_once_however_large() -> None:
    memberships = [Membership(("train", "test")[number % 2], group="patient 1") for number in range(100)]
    assert find_leaks(memberships, NOTHING, []) == [Leak("same_group", 0, 1, ("train", "test"), "patient 1", 100)]


def test_a_source_in_two_splits_leaks() -> None:
    memberships = [Membership("train", source="slide.svs"), Membership("validation", source="slide.svs")]
    assert [leak.kind for leak in find_leaks(memberships, NOTHING, [])] == ["same_source"]


@given(splits=st.lists(SPLITS, min_size=2, max_size=12), groups=st.lists(st.sampled_from("ab"), min_size=12))
def test_a_leak_always_links_two_different_splits(splits: list[str | None], groups: list[str]) -> None:
    memberships = [Membership(split, group) for split, group in zip(splits, groups, strict=False)]
    for leak in find_leaks(memberships, Duplicates([tuple(range(len(memberships)))], []), []):
        assert leak.splits == (splits[leak.first], splits[leak.second])
        assert len({*leak.splits, None}) == 3


def test_warnings_name_both_images_and_the_mend() -> None:
    names = ["train/a.png", "test/b.png"]
    duplicates = Duplicates([], [NearPair(0, 1, 0.981)])
    leaks = find_leaks(members("train", "test"), duplicates, [])
    found = [(number, problem.code) for number, problem in find_pair_problems(names, duplicates, leaks)]
    texts = [problem.text for _, problem in find_pair_problems(names, duplicates, leaks)]
    assert found == [(1, "near_duplicate"), (0, "leak_near_duplicate"), (1, "leak_near_duplicate")]
    assert all(name in text for name in names for text in texts)
    assert texts[1].startswith("train/a.png (train): shows the same as test/b.png (test); ")
    assert texts[2].startswith("test/b.png (test): shows the same as train/a.png (train); ")


def test_all_but_the_first_of_equal_images_are_warned_about() -> None:
    names = ["a.png", "b.png", "c.png"]
    found = list(find_pair_problems(names, Duplicates([(0, 1, 2)], []), []))
    assert [(number, problem.code) for number, problem in found] == [(1, "duplicate"), (2, "duplicate")]


def test_what_must_not_be_parted_is_known_by_the_first_of_all_that_are_linked() -> None:
    duplicates = Duplicates([(1, 4)], [NearPair(4, 6, 0.98)])
    found = list(find_related(duplicates, [Abutment(6, 7, "right", 0.95), Abutment(2, 3, "below", 0.95)]))
    assert found == [(1, 1), (4, 1), (6, 1), (7, 1), (2, 2), (3, 2)]
