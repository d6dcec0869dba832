"""Whatever files are called: each is used by one image, or ignored with a reason."""

import json
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import Rejected
from shared.layouts import Entry, Layout, arrange, detect

FOLDERS = st.sampled_from(
    [
        "images",
        "masks",
        "labels",
        "classes",
        "train",
        "test",
        "01",
        "01_GT",
        "01_ST",
        "SEG",
        "x",
        "x.zarr",
        "fold1",
        "__MACOSX",
    ]
)
STEMS = st.sampled_from(
    ["x", "X", "x_mask", "x_img", "x_type", "t000", "man_seg000", "volume", "train-labels", "images", "masks", "s1_0_0"]
)
SUFFIXES = st.sampled_from(
    [".png", ".PNG", ".tif", ".npy", ".json", ".geojson", ".svs", ".mrxs", ".vms", ".opt", ".dcm", ".zarr", ".txt", ""]
)
LIKELY = st.builds(
    lambda folders, stem, suffix: "/".join([*folders, stem + suffix]), st.lists(FOLDERS, max_size=3), STEMS, SUFFIXES
)
NAMES = st.lists(st.one_of(LIKELY, st.text("aA/._-1 ~", max_size=12)), max_size=25)


class AnyContents:
    """Stacks of three images, but one that is damaged, and JSON that lists what is there."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def pages(self, name: str) -> int:
        if name.startswith("x"):
            raise Rejected("damaged")
        return len(name) % 4

    def text(self, name: str) -> bytes:
        if name.startswith("x"):
            return b"{no JSON"
        return json.dumps({"images": [{"id": 1, "file_name": name} for name in self._names[:9]]}).encode()


@settings(deadline=None)
@given(names=NAMES, layout=st.sampled_from(Layout))
def test_every_file_is_used_or_ignored_with_a_reason(names: list[str], layout: Layout) -> None:
    found = arrange(layout, names, AnyContents(names))
    used = {file for entry in found.entries for file in (*entry.image_files, *entry.mask_files)}
    ignored = [name for name, _ in found.ignored]
    assert used | set(ignored) == set(names)
    assert not used & set(ignored)
    assert len(ignored) == len(set(ignored))
    assert all(reason for _, reason in found.ignored)


@settings(deadline=None)
@given(names=NAMES, layout=st.sampled_from(Layout))
def test_no_file_is_part_of_two_images_and_no_name_stands_twice(names: list[str], layout: Layout) -> None:
    entries = arrange(layout, names, AnyContents(names)).entries
    assert len({entry.name for entry in entries}) == len(entries)
    whole = Counter(file for entry in entries if entry.page is None for file in entry.image_files)
    assert set(whole.values()) <= {1}
    pages = Counter((entry.image, entry.page) for entry in entries)
    assert set(pages.values()) <= {1}
    assert not whole.keys() & {entry.image for entry in entries if entry.page is not None}


@settings(deadline=None)
@given(names=NAMES, layout=st.sampled_from(Layout))
def test_entries_survive_json(names: list[str], layout: Layout) -> None:
    for entry in arrange(layout, names, AnyContents(names)).entries:
        assert Entry.of_json(json.loads(json.dumps(entry.as_json()))) == entry


@settings(deadline=None)
@given(names=NAMES, order=st.randoms(use_true_random=False))
def test_what_is_detected_hangs_on_nothing_but_the_names(names: list[str], order: object) -> None:
    found = detect(names)
    shuffled = list(names)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert detect(shuffled + names) == found
    assert found.images >= (found.masked or 0)
    assert found.layout not in found.alternatives
