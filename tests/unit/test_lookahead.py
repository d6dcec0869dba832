"""Doing the next things while the present one is used."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.worker.lookahead import map_ahead


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as pool:
        yield pool


@given(count=st.integers(0, 20), ahead=st.integers(0, 25))
def test_results_come_in_the_order_of_the_items(count: int, ahead: int) -> None:
    with ThreadPoolExecutor(3) as pool:
        assert list(map_ahead(pool, str, range(count), ahead=ahead)) == [str(number) for number in range(count)]


def test_no_more_is_begun_than_was_allowed(pool: ThreadPoolExecutor) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = map_ahead(pool, str, items(), ahead=4)
    for used in range(1, 50):
        next(results)
        assert len(taken) == used + 4


def test_the_next_is_made_while_the_present_one_is_used(pool: ThreadPoolExecutor) -> None:
    begun = threading.Event()

    def make(number: int) -> int:
        if number == 1:
            begun.set()
        return number

    results = map_ahead(pool, make, range(2), ahead=1)
    assert next(results) == 0
    assert begun.wait(timeout=10)


def test_an_error_is_raised_in_its_place(pool: ThreadPoolExecutor) -> None:
    results = map_ahead(pool, lambda number: 1 // (2 - number), range(5), ahead=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_what_was_not_begun_is_dropped_with_the_iteration(pool: ThreadPoolExecutor) -> None:
    gate, done = threading.Event(), list[int]()

    def make(number: int) -> int:
        if number:
            gate.wait(timeout=30)
            done.append(number)
        return number

    results = map_ahead(pool, make, range(100), ahead=50)
    assert next(results) == 0
    results.close()
    gate.set()
    pool.shutdown()
    assert len(done) <= 3, "no more than were being made"
