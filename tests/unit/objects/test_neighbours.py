import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.imaging.objects.neighbours import Neighbours

Points = NDArray[np.float64]

PLACES = st.integers(0, 60) | st.integers(0, 100_000)


@st.composite
def blocks(draw: st.DrawFn) -> list[Points]:
    """Centroids in the grid of their blocks, some astray in a block that is not theirs, and blocks without any."""
    side = draw(st.sampled_from([5, 20, 1000]))
    places = draw(st.lists(st.tuples(PLACES, PLACES, st.integers(0, 9)), max_size=40))
    found: dict[tuple[int, int], list[tuple[float, float]]] = {(-1, -1): []}
    for x, y, astray in places:
        block = (0, 0) if astray == 0 else (x // side, y // side)
        found.setdefault(block, []).append((x / 3, y / 3))
    return [np.array(points, dtype=np.float64).reshape(-1, 2) for points in found.values()]


def search_all(own: Points, everything: Points) -> Points:
    """By brute force: the second smallest distance, the smallest being that to itself."""
    apart = np.hypot(*(own[:, None] - everything[None]).transpose(2, 0, 1))
    return np.sort(apart, axis=1)[:, 1] if len(everything) > 1 else np.full(len(own), np.nan)


@given(blocks())
def test_the_nearest_is_found_whatever_block_it_is_in(blocks: list[Points]) -> None:
    neighbours, everything = Neighbours(blocks), np.concatenate(blocks)
    for index, own in enumerate(blocks):
        np.testing.assert_allclose(neighbours.find_nearest(index), search_all(own, everything), rtol=1e-14)


@given(blocks())
def test_distances_are_the_same_to_the_last_digit_as_in_one_block(blocks: list[Points]) -> None:
    neighbours, whole = Neighbours(blocks), Neighbours([np.concatenate(blocks)])
    found = np.concatenate([neighbours.find_nearest(index) for index in range(len(blocks))])
    np.testing.assert_array_equal(found, whole.find_nearest(0))


def test_a_lone_object_has_no_neighbour() -> None:
    neighbours = Neighbours([np.empty((0, 2)), np.array([[3.0, 4.0]])])
    assert np.isnan(neighbours.find_nearest(1)).all()


def test_a_block_without_objects_has_no_distances() -> None:
    assert Neighbours([np.empty((0, 2))]).find_nearest(0).shape == (0,)


def test_two_objects_with_one_centroid_are_no_way_apart() -> None:
    around = np.array([[3.0, 4.0]])
    assert Neighbours([around, around]).find_nearest(0).tolist() == [0]
