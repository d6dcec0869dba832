"""What channels are called in tables: every column needs a name of its own."""

from hypothesis import example, given
from hypothesis import strategies as st

from services.worker.stages.subject import name_apart

NAMES = st.lists(st.sampled_from(["", "a", "a 2", "a 3", "channel 1", "channel"]), max_size=8)


@given(names=NAMES)
@example(names=["a 2", "a"])
@example(names=["a 2", "a 3", "a", "a"])
@example(names=["channel 2", ""])
@example(names=["a 3", "a", "a"])
def test_no_two_channels_have_one_name(names: list[str]) -> None:
    assert len(set(name_apart(tuple(names)))) == len(names)


def test_names_that_differ_stay_as_they_are() -> None:
    assert name_apart(("DAPI", "CD3")) == ("DAPI", "CD3")


def test_what_has_no_name_has_its_number() -> None:
    assert name_apart(("DAPI", "", "DAPI")) == ("DAPI", "channel 2", "DAPI 3")
