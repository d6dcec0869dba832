"""Does a file of gigabytes make any process grow on its way into the store?

    python -m benchmarks.uploads [--gigabytes 5]

A file of random bytes goes up through the client, in parts, to the store of `deploy/local`, and becomes a version of a
dataset. Beside it the time that copying the file takes on the same disk: the client reads the file twice, to hash it
and to send it, and the store writes it once.

The figures are resident sets, in MB of 10⁶ bytes: the peak of each process as the kernel keeps it (VmHWM, set back
before the upload), and by how much it grew.

Progress goes to stderr. The last line of stdout is one JSON object.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from benchmarks.machine import describe_machine
from deploy.local.ports import port_for
from deploy.local.process import Process
from deploy.local.stack import Stack, erase
from shared import migrations
from shared.database import make_engine, make_sessions
from shared.domain import workspaces
from shared.settings import Settings

BLOCK = 64 * 2**20  # bytes drawn at random; the file repeats them, numbered
RESET_PEAK = "5"  # proc(5), /proc/pid/clear_refs
SEND = """
import json, sys
from pathlib import Path
from overtile import Client

def resident(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

with Client(sys.argv[1], sys.argv[2]) as client:
    client.datasets.ensure("bench")
    before = resident("VmRSS:")
    client.datasets.upload(sys.argv[3], name="bench")
print(json.dumps({"before": before, "peak": resident("VmHWM:")}))
"""


@dataclass(frozen=True)
class Host:
    """API and store, running. `api`, `store`: their process ids."""

    url: str
    api_key: str
    api: int
    store: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _parse(arguments)
    machine = describe_machine()
    with TemporaryDirectory(prefix="overtile-bench-", dir=options.folder) as name:
        folder = Path(name)
        path = folder / "large.bin"
        _say(f"writing {options.gigabytes} GB ...")
        _write(path, int(options.gigabytes * 1e9))
        copying = _copy(path, folder / "copy.bin")
        with _run(folder / "data") as host:
            _say("uploading ...")
            found = measure(host, path)
        erase(folder / "data")
    print(json.dumps({**found, "copy_seconds": round(copying, 1), "machine": machine}, ensure_ascii=False), flush=True)


def measure(host: Host, path: Path) -> dict[str, Any]:
    """Upload the file from a process of its own; what it took."""
    before = {}
    for name, pid in (("api", host.api), ("store", host.store)):
        Path(f"/proc/{pid}/clear_refs").write_text(RESET_PEAK)
        before[name] = _resident(pid, "VmRSS:")
    began = time.perf_counter()
    argv = [sys.executable, "-c", SEND, host.url, host.api_key, str(path)]
    client = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)
    seconds = time.perf_counter() - began
    peaks = {"client": client["peak"], "api": _resident(host.api, "VmHWM:"), "store": _resident(host.store, "VmHWM:")}
    before["client"] = client["before"]
    return {
        "bytes": path.stat().st_size,
        **{f"{name}_mb": round(peak / 1e6) for name, peak in peaks.items()},
        "grown_mb": {name: round((peak - before[name]) / 1e6) for name, peak in peaks.items()},
        "seconds": round(seconds, 1),
    }


@contextmanager
def _run(data: Path) -> Iterator[Host]:
    with Stack(data, servers=("valkey", "s3", "postgres")) as stack:
        names = {name.removeprefix("OVERTILE_").lower(): value for name, value in stack.environment().items()}
        settings = Settings.model_validate({name: names[name] for name in Settings.model_fields if name in names})
        engine = make_engine(settings)
        migrations.upgrade(engine)
        with make_sessions(engine)() as session:
            key = workspaces.issue_key(session, workspaces.create(session, "bench"), label="bench")
        port = str(port_for("api", data=data))
        argv = [sys.executable, "-m", "uvicorn", "--factory", "services.api.app:create_app", "--port", port]
        url = f"http://127.0.0.1:{port}"
        api = Process(
            "api",
            [*argv, "--no-access-log"],
            log=data / "api.log",
            env=stack.environment(),
            healthy=lambda: _ask_ready(url),
        )
        api.start()
        try:
            api.wait_healthy()
            yield Host(url, key, api.pid, stack.process("s3").pid)
        finally:
            api.stop()


def _ask_ready(url: str) -> None:
    httpx.get(f"{url}/readyz", trust_env=False).raise_for_status()


def _write(path: Path, size: int) -> None:
    block = os.urandom(BLOCK - 8)
    with path.open("wb") as file:
        for number in range(-(-size // BLOCK)):
            file.write((number.to_bytes(8) + block)[: size - number * BLOCK])
        os.fsync(file.fileno())


def _copy(path: Path, to: Path) -> float:
    """Seconds that copying takes, until the copy is on the disk."""
    began = time.perf_counter()
    with path.open("rb") as source, to.open("wb") as target:
        shutil.copyfileobj(source, target, 2**20)
        os.fsync(target.fileno())
    seconds = time.perf_counter() - began
    to.unlink()
    return seconds


def _resident(pid: int, name: str) -> int:
    """Bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.uploads", description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=5, help="of the file, 10⁹ bytes each")
    parser.add_argument(
        "--folder", help="where there is room for it three times; the system's temporary folder if not given"
    )
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
