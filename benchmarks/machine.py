"""What a figure was measured on."""

import os
import platform
from pathlib import Path
from typing import Any

import psutil

TELLING = ("amx_bf16", "amx_int8", "avx512_bf16", "avx512f", "avx2")  # what decides how fast convolutions are


def describe_machine() -> dict[str, Any]:
    """Processor, cores we may use, memory, and how busy it was with other things: nothing that names the machine."""
    lines = [line.partition(":") for line in _cpuinfo().splitlines()]
    facts = {name.strip(): value.strip() for name, _, value in lines}
    flags = set(facts.get("flags", "").split())
    return {
        "processor": facts.get("model name", platform.machine()),
        "extensions": [flag for flag in TELLING if flag in flags],
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "load_before": round(os.getloadavg()[0], 1),
    }


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""
