"""A file in an object store, read by ranges: what was fetched once is kept for a while."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from shared.errors import Unavailable
from shared.slides.source import Run, Source

Fetch = Callable[[int, int], bytes]  # (offset, count) → so many bytes
# Bytes that are fetched and kept together. A tile of a slide has 10 to 200 kB, and those of a region lie in runs of
# some: larger blocks fetch more beside them than they save in requests.
BLOCK = 65_536
LONGEST = 128  # blocks of one request, 8 MiB: the parts of a longer run are fetched at once
THREADS = 4  # requests on their way at once, per source
CACHE_BYTES = 128_000_000


class BlockCache:
    """The blocks that were wanted last, of any number of sources. Safe to share between threads."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit, self._held = limit, 0
        self._blocks: OrderedDict[tuple[Hashable, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Bytes in it; never more than its limit."""
        return self._held

    def get(self, name: Hashable, number: int) -> bytes | None:
        """A block of the source of that name, None if it is not held."""
        with self._lock:
            block = self._blocks.get((name, number))
            if block is not None:
                self._blocks.move_to_end((name, number))
            return block

    def put(self, name: Hashable, number: int, block: bytes) -> None:
        """Keep a block, in place of those that were not wanted for the longest time."""
        with self._lock:
            self._held += len(block) - len(self._blocks.pop((name, number), b""))
            self._blocks[name, number] = block
            while self._held > self._limit:
                self._held -= len(self._blocks.popitem(last=False)[1])


class RangedSource(Source):
    """A file of `size` bytes behind `fetch`, which is asked for whole blocks, never for the same one twice at once.

    `cache` may be shared with other sources; then `name` tells the content apart from theirs.

    Raises (from every read):
        Unavailable: `fetch` gave another number of bytes than it was asked for.
        Exception: whatever `fetch` raises.
    """

    def __init__(
        self, fetch: Fetch, size: int, *, cache: BlockCache | None = None, name: Hashable | None = None
    ) -> None:
        self.size, self._fetch = size, fetch
        self._cache, self._name = cache or BlockCache(), name or object()
        self._lock = threading.Lock()
        self._coming: dict[int, Future[bytes]] = {}
        self._threads: ThreadPoolExecutor | None = None
        self.bytes_fetched = self.requests = 0  # so far

    def read_many(self, runs: Sequence[Run]) -> list[bytes]:
        inside = [(offset, max(min(count, self.size - offset), 0)) for offset, count in runs]
        wanted = sorted({number for run in inside for number in _numbers(run)})
        held, coming, mine = self._claim(wanted)
        try:
            self._fetch_all(list(_join(mine)))
        except BaseException as error:
            self._give_up(mine, error)
            raise
        held |= {number: future.result() for number, future in coming.items()}
        return [_cut(held, run) for run in inside]

    def close(self) -> None:
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False)

    def _claim(self, wanted: Iterable[int]) -> tuple[dict[int, bytes], dict[int, "Future[bytes]"], list[int]]:
        """The blocks that are held, those on their way, and which of the latter this thread is to fetch."""
        held, coming, mine = dict[int, bytes](), dict[int, Future[bytes]](), list[int]()
        with self._lock:
            for number in wanted:
                block = self._cache.get(self._name, number)
                if block is not None:
                    held[number] = block
                    continue
                if number not in self._coming:
                    self._coming[number] = Future()
                    mine.append(number)
                coming[number] = self._coming[number]
        return held, coming, mine

    def _fetch_all(self, runs: list[range]) -> None:
        """Fetch runs of blocks; what fails is told to whoever waits for the block."""
        if len(runs) < 2:
            for run in runs:
                self._fetch_run(run)
            return
        with self._lock:
            self._threads = self._threads or ThreadPoolExecutor(THREADS, thread_name_prefix="ranges")
        for done in [self._threads.submit(self._fetch_run, run) for run in runs]:
            done.result()

    def _fetch_exactly(self, start: int, count: int) -> bytes:
        content = self._fetch(start, count)
        if len(content) != count:
            raise Unavailable(f"{len(content)} bytes came where {count} from {start} on were asked for")
        return content

    def _give_up(self, numbers: Iterable[int], error: BaseException) -> None:
        with self._lock:
            for future in [self._coming.pop(number) for number in numbers if number in self._coming]:
                future.set_exception(error)

    def _fetch_run(self, run: range) -> None:
        start, count = run.start * BLOCK, min(run.stop * BLOCK, self.size) - run.start * BLOCK
        try:
            content = self._fetch_exactly(start, count)
        except BaseException as error:  # others wait for it: they must hear, whatever it is
            self._give_up(run, error)
            return
        with self._lock:
            self.bytes_fetched += count
            self.requests += 1
            for number in run:
                block = content[(number - run.start) * BLOCK : (number - run.start + 1) * BLOCK]
                self._cache.put(self._name, number, block)
                self._coming.pop(number).set_result(block)


def _numbers(run: Run) -> range:
    """The blocks that hold a run of bytes."""
    offset, count = run
    return range(offset // BLOCK, -(-(offset + count) // BLOCK)) if count else range(0)


def _join(numbers: Iterable[int]) -> Iterator[range]:
    """Sorted numbers as runs of neighbours, each no longer than a request may be."""
    run = range(0)
    for number in numbers:
        if run and number == run.stop and len(run) < LONGEST:
            run = range(run.start, number + 1)
            continue
        if run:
            yield run
        run = range(number, number + 1)
    if run:
        yield run


def _cut(blocks: dict[int, bytes], run: Run) -> bytes:
    offset, count = run
    numbers = _numbers(run)
    if len(numbers) == 1:
        start = offset - numbers.start * BLOCK
        return blocks[numbers.start][start : start + count]
    joined = b"".join(blocks[number] for number in numbers)
    start = offset - numbers.start * BLOCK
    return joined[start : start + count]
