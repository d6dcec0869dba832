"""A file in an object store, read by ranges: what was fetched once is kept for a while."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

from shared.errors import Unavailable
from shared.slides.source import Run, Source

Fetch = Callable[[int, int], bytes]  # (offset, count) → so many bytes
# Bytes that are fetched and kept together. A tile of a slide has 10 to 200 kB, and those of a region lie in runs of
# some: larger blocks fetch more beside them than they save in requests.
BLOCK = 65_536
LONGEST = 128  # blocks of one request, 8 MiB: the parts of a longer run are fetched at once
THREADS = 4  # requests on their way at once, per source
PATIENCE = 600  # seconds for the requests of one read: more than a store's client takes to give up
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


class _Batch:
    """Blocks that one thread is fetching for itself, and for whoever else wants one of them.

    `under_way` is held until that is over, however it ends: releasing a lock takes no memory, so that no lack of it
    leaves anybody waiting. What could not be fetched is missing then.
    """

    def __init__(self) -> None:
        self.under_way = threading.Lock()
        self.numbers: list[int] = []  # in their order
        self.blocks: dict[int, bytes] = {}
        self.error: BaseException | None = None

    def wait_for(self, number: int) -> bytes:
        """A block, once the batch is over. Raises what its thread met with, where it could not be had."""
        with self.under_way:
            pass
        block = self.blocks.get(number)
        if block is None:
            raise self.error or Unavailable("the thread that fetched the same part of the file broke off")
        return block


class RangedSource(Source):
    """A file of `size` bytes behind `fetch`, which is asked for whole blocks, never for the same one twice at once.

    `cache` may be shared with other sources; then `name` tells the content apart from theirs.

    Raises (from every read):
        Unavailable: `fetch` gave another number of bytes than it was asked for, or took longer than `PATIENCE`.
        Exception: whatever `fetch` raises.
    """

    def __init__(
        self, fetch: Fetch, size: int, *, cache: BlockCache | None = None, name: Hashable | None = None
    ) -> None:
        self.size, self._fetch = size, fetch
        self._cache, self._name = cache or BlockCache(), name or object()
        self._lock = threading.Lock()
        self._coming: dict[int, _Batch] = {}
        self._threads: ThreadPoolExecutor | None = None
        self.bytes_fetched = self.requests = 0  # so far

    def read_many(self, runs: Sequence[Run]) -> list[bytes]:
        inside = [(offset, max(min(count, self.size - offset), 0)) for offset, count in runs]
        wanted = sorted({number for run in inside for number in _numbers(run)})
        batch = _Batch()
        with batch.under_way:
            held, coming = self._fetch_missing(wanted, batch)
        # Only now that nobody waits for this thread any more: two that waited for each other would do so for ever.
        held |= {number: other.wait_for(number) for number, other in coming.items()}
        held |= batch.blocks
        return [_cut(held, run) for run in inside]

    def close(self) -> None:
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False)

    def _fetch_missing(self, wanted: Iterable[int], batch: _Batch) -> tuple[dict[int, bytes], dict[int, _Batch]]:
        """Fetch into `batch` what is neither held nor on its way; gives the blocks held, and who fetches others."""
        try:
            held, coming = self._claim(wanted, batch)
            self._fetch_all(list(_join(batch.numbers)), batch)
        except BaseException as error:  # others wait for it: they must hear, whatever it is
            batch.error = error
            raise
        finally:
            self._disclaim(batch)
        return held, coming

    def _claim(self, wanted: Iterable[int], batch: _Batch) -> tuple[dict[int, bytes], dict[int, _Batch]]:
        """The blocks that are held, and those on their way; the others become those of `batch`."""
        held, coming = dict[int, bytes](), dict[int, _Batch]()
        with self._lock:
            for number in wanted:
                block, other = self._cache.get(self._name, number), self._coming.get(number)
                if block is not None:
                    held[number] = block
                elif other is not None and other.under_way.locked():
                    coming[number] = other
                else:
                    batch.numbers.append(number)
                    self._coming[number] = batch
        return held, coming

    def _disclaim(self, batch: _Batch) -> None:
        with self._lock:
            for number in batch.numbers:
                if self._coming.get(number) is batch:
                    del self._coming[number]

    def _fetch_all(self, runs: list[range], batch: _Batch) -> None:
        """Fetch runs of blocks; raises the first of what they raise, after the last of them."""
        if len(runs) < 2:
            for run in runs:
                self._fetch_run(run, batch)
            return
        with self._lock:
            self._threads = self._threads or ThreadPoolExecutor(THREADS, thread_name_prefix="ranges")
            threads = self._threads
        fetches = [threads.submit(self._fetch_run, run, batch) for run in runs]
        # A thread that dies for want of memory may not be able to say so.
        if wait(fetches, timeout=PATIENCE).not_done:
            raise Unavailable(f"parts of the file were asked for, and did not come within {PATIENCE} s")
        for fetch in fetches:
            fetch.result()

    def _fetch_run(self, run: range, batch: _Batch) -> None:
        start, count = run.start * BLOCK, min(run.stop * BLOCK, self.size) - run.start * BLOCK
        content = self._fetch(start, count)
        if len(content) != count:
            raise Unavailable(f"{len(content)} bytes came where {count} from {start} on were asked for")
        with self._lock:
            self.bytes_fetched += count
            self.requests += 1
            for number in run:
                block = content[(number - run.start) * BLOCK : (number - run.start + 1) * BLOCK]
                batch.blocks[number] = block
                self._cache.put(self._name, number, block)


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
