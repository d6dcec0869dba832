"""What becomes of damaged files: are they read or refused, or does a reader fail, crash, hang or take all memory?

    python -m benchmarks.fuzz [--data ../shared/data] [--count 3000] [--seed 0]

Copies of the slides, images and masks of a folder, and of small files of every format that are made here, are cut,
changed by a few bits, swapped, blanked, and given headers that lie. Each is read in a worker process with a limit of
memory and of time, as a job would read it: opened, from a source of ranges too where that is possible, a picture of the
whole, a region of each level, all channels; masks as annotations, and checked. What a reader answers with `Rejected` is
refused; any other error is wrong.

Progress and what went wrong go to stderr. The last line of stdout is one JSON object.
"""

import argparse
import json
import resource
import select
import shutil
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.damage import ACCIDENTS, lie, lie_in_numbers
from benchmarks.job_reads import NAME, READERS
from benchmarks.whole_files import Use, Whole, find, make
from shared.errors import Rejected

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
MEMORY = 4_000_000_000  # bytes of address space of a worker
SECONDS = 20  # for a file
LYING = 0.4  # share of the damage that is a lie in a header


@dataclass
class Outcome:
    """What a worker answers: `kind` is read, refused, wrong, crashed or hung."""

    kind: str
    text: str = ""
    seconds: float = 0.0
    peak_mb: float = 0.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Damage, read, count and print."""
    options = _parse(arguments)
    if options.work:
        work()
        return
    with TemporaryDirectory(prefix="overtile-fuzz-") as place:
        wholes = collect(options.data, Path(place) / "whole", options.seed)
        outcomes = run_all(wholes, Path(place), options)
    print(json.dumps(summarise(outcomes)))


def collect(data: Path, folder: Path, seed: int) -> list[list[Whole]]:
    """Sound files, grouped by kind."""
    folder.mkdir()
    random = np.random.default_rng(seed)
    wholes = [*make(folder, random), *(find(data, random) if data.is_dir() else ())]
    ordered = sorted(wholes, key=lambda whole: whole.kind)
    return [list(group) for _, group in groupby(ordered, key=lambda whole: whole.kind)]


def run_all(kinds: list[list[Whole]], place: Path, options: argparse.Namespace) -> list[Outcome]:
    """Read so many damaged copies, `options.workers` at a time."""
    free: SimpleQueue[Worker] = SimpleQueue()
    for _ in range(options.workers):
        free.put(Worker())
    wrong: Counter[str] = Counter()

    def one(number: int) -> Outcome:
        random = np.random.default_rng([options.seed, number])
        group = kinds[number % len(kinds)]
        whole = group[int(random.integers(len(group)))]
        copy = place / f"{number}{whole.path.suffix}"
        how = damage(whole, copy, random)
        worker = free.get()
        try:
            outcome = worker.read(copy, whole.use)
        finally:
            free.put(worker)
        if outcome.kind not in ("read", "refused"):
            wrong[outcome.text] += 1
            if wrong[outcome.text] == 1:
                print(f"{number} {whole.kind}, {how}: {outcome.kind}: {outcome.text}", file=sys.stderr)
            _keep(copy, options.keep, number)
        shutil.rmtree(copy) if copy.is_dir() else copy.unlink()
        return outcome

    with ThreadPoolExecutor(options.workers) as threads:
        outcomes = list(threads.map(one, range(options.count)))
    while not free.empty():
        free.get().stop()
    for text, count in wrong.most_common():
        print(f"{count} ×: {text}", file=sys.stderr)
    slowest = max(range(len(outcomes)), key=lambda number: outcomes[number].seconds)
    print(f"slowest: {slowest}, {kinds[slowest % len(kinds)][0].kind}", file=sys.stderr)
    return outcomes


def damage(whole: Whole, copy: Path, random: np.random.Generator) -> str:
    """Write a damaged copy; says what was done to it."""
    target = copy
    if whole.path.is_dir():
        shutil.copytree(whole.path, copy)
        files = sorted(path for path in copy.rglob("*") if path.is_file())
        described = [path for path in files if path.suffix == ".json" or path.name.startswith(".z")]
        chosen = described if random.random() < 0.5 else files
        target = chosen[int(random.integers(len(chosen)))]
        content = target.read_bytes()
    else:
        content = whole.path.read_bytes()
    done = []
    for _ in range(int(random.integers(1, 3))):
        in_words = whole.use in ("coco", "geojson")
        lies = lie_in_numbers if in_words else lie
        act = lies if random.random() < LYING else ACCIDENTS[int(random.integers(len(ACCIDENTS)))]
        content = act(content, random) if len(content) > 200 or act is not lies else content
        done.append(act.__name__)
        if not content:
            break
    target.write_bytes(content)
    return " and ".join(done)


class Worker:
    """A process that reads what it is told to; started anew when it has died."""

    def __init__(self) -> None:
        self._process = self._start()

    def read(self, path: Path, use: Use) -> Outcome:
        """Have a file read. A worker that dies or takes too long is its fault."""
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("the worker has no pipes")
        started = time.monotonic()
        self._process.stdin.write(json.dumps({"path": str(path), "use": use}) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], SECONDS)
        if not ready:
            self._restart()
            return Outcome("hung", f"no answer after {SECONDS} s", time.monotonic() - started)
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._restart()
            return Outcome("crashed", f"the process ended with {code}", time.monotonic() - started)
        return Outcome(**json.loads(line))

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _restart(self) -> None:
        self.stop()
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "benchmarks.fuzz", "--work"]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )


def work() -> None:
    """Read what the lines of stdin name, answer each with a line."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        task = json.loads(line)
        started = time.monotonic()
        outcome = attempt(Path(task["path"]), task["use"])
        outcome.seconds = time.monotonic() - started
        outcome.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        print(json.dumps(asdict(outcome)), flush=True)


def attempt(path: Path, use: Use) -> Outcome:
    """Read a file as a job does."""
    try:
        READERS[use](path)
    except Rejected as error:
        named = str(error).startswith(NAME)
        return Outcome("refused") if named else Outcome("wrong", f"a refusal without the file's name: {error}")
    except Exception as error:  # that is what is looked for
        last = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome("wrong", f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {error}"[:300])
    return Outcome("read")


def summarise(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The counts, and the worst of each."""
    counts = Counter(outcome.kind for outcome in outcomes)
    return {
        "files": len(outcomes),
        **{kind: counts[kind] for kind in ("read", "refused", "wrong", "crashed", "hung")},
        "peak_mb": round(max(outcome.peak_mb for outcome in outcomes)),
        "slowest_s": round(max(outcome.seconds for outcome in outcomes), 2),
    }


def _keep(copy: Path, folder: Path | None, number: int) -> None:
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{number}{copy.suffix}"
    shutil.copytree(copy, kept, dirs_exist_ok=True) if copy.is_dir() else shutil.copy(copy, kept)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Damaged files: read, refused, or worse?")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of sound files")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for the copies that something went wrong with")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
