"""Basins become one by the rule, whatever the order in which it is worked out."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.imaging.objects.merging import CLOSED, NEVER, OPEN, Depth, Edges, Merged, in_order, merge

Graph = tuple[NDArray[np.int64], Edges]  # tops, edges


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Some basins, and saddles between them that are as high as both tops at most; many of equal height."""
    tops = np.array(draw(st.lists(st.integers(1, 9), min_size=1, max_size=9)), dtype=np.int64)
    basin = st.integers(0, tops.size - 1)
    pairs = draw(st.lists(st.tuples(basin, basin, st.integers(1, 9)), max_size=20))
    first, second, wanted = np.array(pairs, dtype=np.int64).reshape(-1, 3).T
    saddles = np.minimum(wanted, np.minimum(tops[first], tops[second]))
    positions = np.array(draw(st.permutations(range(len(pairs)))), dtype=np.int64)
    return tops, in_order(Edges(first, second, saddles, positions))


depths = st.builds(Depth, st.integers(1, 6), st.sampled_from([0, 100, 400, 900]), st.integers(-3, 3))


def find_wanted(top: int, depth: Depth) -> int:
    return max(depth.least, (top - depth.base) * depth.per_mille // 1000)


def merge_one_by_one(tops: NDArray[np.int64], edges: Edges, depth: Depth) -> list[int]:
    """The rule as it is written: edge after edge, from the highest saddle."""
    parts, heights = list(range(tops.size)), tops.tolist()
    for first, second, saddle in zip(edges.first, edges.second, edges.saddles, strict=True):
        one, other = parts[first], parts[second]
        if one != other and min(heights[one], heights[other]) - saddle < find_wanted(
            min(heights[one], heights[other]), depth
        ):
            heights[one] = max(heights[one], heights[other])
            parts = [one if part == other else part for part in parts]
    return canonical(parts)


def canonical(parts: list[int]) -> list[int]:
    """Each basin with the first that is one with it."""
    return [parts.index(part) for part in parts]


def close(tops: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.full_like(tops, CLOSED)


@given(graph=graphs(), depth=depths)
def test_basins_merge_as_if_edge_were_taken_after_edge(graph: Graph, depth: Depth) -> None:
    tops, edges = graph
    merged = merge(tops, close(tops), edges, depth=depth)
    assert canonical(merged.parts.tolist()) == merge_one_by_one(tops, edges, depth)


@given(graph=graphs(), depth=depths)
def test_nothing_stays_undecided_if_nothing_is_unknown(graph: Graph, depth: Depth) -> None:
    tops, edges = graph
    assert len(merge(tops, close(tops), edges, depth=depth).edges) == 0


@given(data=st.data(), graph=graphs(), depth=depths)
def test_what_is_decided_in_part_leads_to_the_same_end(data: st.DataObject, graph: Graph, depth: Depth) -> None:
    tops, edges = graph
    block_of = np.array(data.draw(st.lists(st.integers(0, 2), min_size=tops.size, max_size=tops.size)))
    crossing = block_of[edges.first] != block_of[edges.second]
    openings = close(tops)
    np.maximum.at(openings, edges.first[crossing], edges.saddles[crossing])
    np.maximum.at(openings, edges.second[crossing], edges.saddles[crossing])
    merged = merge(tops, openings, edges.take(~crossing), depth=depth)
    left = in_order(join_edges(merged, edges.take(crossing).between(merged.parts)))
    end = merge(merged.tops, close(tops), left, depth=depth)
    assert canonical(end.parts[merged.parts].tolist()) == merge_one_by_one(tops, edges, depth)


def join_edges(merged: Merged, others: Edges) -> Edges:
    left = merged.edges
    return Edges(
        np.concatenate([left.first, others.first]),
        np.concatenate([left.second, others.second]),
        np.concatenate([left.saddles, others.saddles]),
        np.concatenate([left.positions, others.positions]),
    )


@given(graph=graphs())
def test_whatever_touches_is_one_if_no_top_can_stand_out(graph: Graph) -> None:
    tops, edges = graph
    parts = merge(tops, close(tops), edges, depth=NEVER).parts
    np.testing.assert_array_equal(parts[edges.first], parts[edges.second])


def one_edge(saddle: int) -> Edges:
    return Edges(np.array([0]), np.array([1]), np.array([saddle]), np.array([0]))


def test_two_tops_that_stand_out_by_the_depth_stay_apart() -> None:
    tops = np.array([9, 5])
    assert merge(tops, close(tops), one_edge(3), depth=Depth(2)).parts.tolist() == [0, 1]


def test_a_top_that_hardly_stands_out_is_part_of_the_other() -> None:
    tops = np.array([9, 4])
    assert np.unique(merge(tops, close(tops), one_edge(3), depth=Depth(2)).parts).size == 1


def test_two_basins_with_tops_elsewhere_are_left_undecided() -> None:
    tops = np.array([4, 4])
    merged = merge(tops, np.array([OPEN, OPEN]), one_edge(3), depth=Depth(2))
    assert (len(merged.edges), merged.open.tolist()) == (1, [True, True])


def test_a_basin_that_ends_here_joins_one_that_goes_on() -> None:
    tops = np.array([4, 4])
    merged = merge(tops, np.array([CLOSED, OPEN]), one_edge(3), depth=Depth(2))
    assert np.unique(merged.parts).size == 1


def test_a_basin_opened_by_an_undecided_edge_is_open() -> None:
    tops = np.array([9, 4])
    assert merge(tops, np.array([CLOSED, OPEN]), one_edge(3), depth=Depth(2)).open.tolist() == [True, True]
