"""Which processors compute, and in which arithmetic."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from lightning_fabric import Fabric

Precision = Literal["bf16-mixed", "32-true"]


def make_fabric(precision: str, *, devices: int = 1) -> Fabric:
    """One rank of `devices`. With more than one, the environment says which (see `ranks`).

    `precision`: auto, bf16 or fp32.
    """
    strategy = "ddp" if devices > 1 else "auto"
    return Fabric(accelerator="auto", devices=devices, strategy=strategy, precision=choose_precision(precision))


def choose_precision(wanted: str = "auto") -> Precision:
    """`auto` is bf16 where the processor or graphics card has it in hardware: several times faster, as good."""
    if wanted != "auto":
        return "bf16-mixed" if wanted == "bf16" else "32-true"
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    able = torch.cpu.get_capabilities()
    return "bf16-mixed" if able.get("amx_bf16") or able.get("avx512_bf16") else "32-true"


@contextmanager
def determinism(*, wanted: bool) -> Iterator[None]:
    """Within it, torch refuses operations whose result may differ from run to run, if `wanted`."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # asked for by CUDA's matrix library
        torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=before)
