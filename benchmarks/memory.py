"""Does a larger slide need more memory?

    python -m benchmarks.memory [--sizes 0.1 1 10]

Sparse synthetic slides of so many gigapixels go through the platform, one after the other and the smallest first, with
a network so small that the platform around it is what is measured. Tiles without tissue are predicted like all others.
All slides are cut into tiles of one size: each size that is new to it takes the engine memory of its own, once, for up
to four sizes.

The figures are resident sets, in MB of 10⁶ bytes: the peak of each process during a job, as the kernel keeps it (VmHWM,
set back before the job), summed over a process and its children. Memory that processes share, such as the tiles in
shared memory between worker, Triton and its Python stub, counts in each of them.

Progress goes to stderr. The last line of stdout is one JSON object; `benchmarks/RESULTS.md` explains its keys.
"""

import argparse
import json
import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import psutil

from benchmarks.hosting import PROCESSES, Host, add_setting, run_platform
from benchmarks.images import DRAWN_SIDE, save_sparse_slide
from benchmarks.machine import describe_machine
from benchmarks.networks import export_network, make_network
from shared.imaging.drawing import draw_nuclei

WARM_UP = 0.02  # GPx; loads the model and compiles its tile
PACE = 0.2  # seconds between two looks: a process that ends takes its peak with it
WATCHED = ("worker-1", "triton")  # those whose memory must not grow
RESET_PEAK = "5"  # proc(5), /proc/pid/clear_refs


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _parse(arguments)
    machine = describe_machine()
    network = make_network(options.widths, draw_nuclei(DRAWN_SIDE, DRAWN_SIDE, seed=0, stain="histology")[0])
    with TemporaryDirectory(prefix="overtile-bench-") as name:
        folder = Path(name)
        with run_platform(folder / "platform", dict(options.setting)) as host:
            host.register(export_network(network))
            measure(host, folder, WARM_UP)
            jobs = [measure(host, folder, size) for size in sorted(options.sizes)]
    print(json.dumps({**describe(jobs), "machine": machine}, ensure_ascii=False), flush=True)


def measure(host: Host, folder: Path, size: float) -> dict[str, Any]:
    """Segment a slide of `size` gigapixels; what it took."""
    _say(f"writing a slide of {size} GPx ...")
    path = folder / f"{size}.tiff"
    side = save_sparse_slide(path, size * 1e9)
    _say(f"{side} × {side} px, {path.stat().st_size / 1e6:.0f} MB: segmenting ...")
    with PeakMemory(host) as memory:
        run = host.segment(path, empty_tiles="predict")
    path.unlink()
    found = {
        "gigapixels": round(side**2 / 1e9, 3),
        "core_px": run.facts["core"],
        "seconds": round(run.seconds, 1),
        "rss_mb": {name: round(peak / 1e6) for name, peak in memory.peaks().items()},
        "stages": {stage.stage: stage.wall_seconds for stage in run.job.stages},
    }
    _say(json.dumps(found))
    return found


def describe(jobs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures: growth from the first job to the last, and the peaks of the last."""
    first, last = jobs[0]["rss_mb"], jobs[-1]["rss_mb"]
    growth = {name: round(last[name] / first[name], 3) for name in PROCESSES}
    return {
        "rss_growth": max(growth[name] for name in WATCHED),
        "worker_rss_mb": last["worker-1"],
        "triton_rss_mb": last["triton"],
        "growth": growth,
        "jobs": list(jobs),
    }


class PeakMemory:
    """The largest resident sets of the platform's processes while inside `with`."""

    def __init__(self, host: Host, names: Sequence[str] = PROCESSES) -> None:
        self._host, self._names = host, names
        self._peaks: dict[str, dict[int, int]] = defaultdict(dict)  # bytes by process id, of each name
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak memory")

    def peaks(self) -> dict[str, int]:
        """Bytes by name, summed over a process and its children."""
        return {name: sum(peaks.values()) for name, peaks in self._peaks.items()}

    def __enter__(self) -> Self:
        for name in self._names:
            for process in self._host.family(name):
                Path(f"/proc/{process.pid}/clear_refs").write_text(RESET_PEAK)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._over.wait(PACE):
            self._look()

    def _look(self) -> None:
        for name in self._names:
            try:
                for process in self._host.family(name):
                    self._peaks[name][process.pid] = _read_peak(process.pid)
            except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                continue


def _read_peak(pid: int) -> int:
    """Bytes; 0 of a process that has no memory any more."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.1, 1, 10], help="of the slides, gigapixels")
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 16], help="of the UNet")
    add_setting(parser)
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
