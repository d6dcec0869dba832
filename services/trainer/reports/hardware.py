"""Which machine and which code made a model."""

import math
import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

_SOURCES = Path(__file__).parents[3]
_CGROUP = Path("/sys/fs/cgroup")  # version 2, where a container's limits stand
_PACKAGE = "overtile-platform"
_PRECISIONS = ("amx_bf16", "avx512_bf16", "bf16")  # what makes bf16 fast on x86, x86 and ARM
_GIT_SECONDS = 10.0


def describe_hardware() -> dict[str, Any]:
    """Processor, memory and graphics cards that this process may use, and torch's version.

    `cores` and `memory_gb` respect the limits of a container. `precisions`: the flags for fast bf16 that are set.
    """
    able = torch.cpu.get_capabilities()
    return {
        "cpu": _read_cpu_name(Path("/proc/cpuinfo")),
        "cores": _count_cores(_CGROUP),
        "memory_gb": round(_measure_memory(_CGROUP) / 1e9, 1),
        "precisions": [flag for flag in _PRECISIONS if able.get(flag)],
        "gpus": _list_gpus(),
        "torch": torch.__version__,
    }


def code_version() -> str:
    """The package's version; of a checkout also the commit, as `0.1.0+g1a2b3c4d5e6f`, with `.changed` if it was edited.

    Only the version where there is no checkout, no git, or git will not tell.
    """
    return _find_version(_SOURCES)


def _find_version(sources: Path) -> str:
    number = version(_PACKAGE)
    git = shutil.which("git")
    if git is None or not (sources / ".git").exists():  # a folder inside somebody else's checkout is none
        return number
    command = [git, "-C", str(sources), "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=.changed"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)  # noqa: S603 (no part of it comes from outside)
    except (OSError, subprocess.SubprocessError):
        return number
    return f"{number}+g{answer.stdout.strip()}"


def _read_cpu_name(cpuinfo: Path) -> str:
    """The model's name; the architecture where the kernel tells none, as on ARM."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _count_cores(cgroup: Path) -> int:
    """Those that this process may run on, or the whole cores' worth of time its container gets, if that is less."""
    cores = len(os.sched_getaffinity(0))
    quota, _, period = _read_limit(cgroup / "cpu.max").partition(" ")  # "150000 100000": one and a half cores
    return min(cores, math.ceil(int(quota) / int(period))) if quota.isdigit() else cores


def _measure_memory(cgroup: Path) -> int:
    """Bytes."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _read_limit(cgroup / "memory.max")
    return min(memory, int(limit)) if limit.isdigit() else memory


def _read_limit(path: Path) -> str:
    """`max` where there is no limit."""
    try:
        return path.read_text().strip()
    except OSError:
        return "max"


def _list_gpus() -> list[dict[str, Any]]:
    if not torch.cuda.is_available():
        return []
    cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [{"name": card.name, "memory_gb": round(card.total_memory / 1e9, 1)} for card in cards]
