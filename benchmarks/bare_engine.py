"""Has a graph predicted by the bare engine, in the environment that Triton has for it."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from deploy.local import triton
from shared.imaging.tiling import Pixels

PROGRAM = Path(__file__).with_name("engine.py")


@dataclass(frozen=True)
class Pace:
    """How long the engine takes for a tile or a batch, on average over a round."""

    seconds: float
    cpu_seconds: float
    facts: dict[str, Any]  # version and options

    @property
    def share(self) -> float:
        """How much of the cores it was given: well below 1, somebody else was using them."""
        return self.cpu_seconds / self.seconds / int(self.facts["options"]["INFERENCE_NUM_THREADS"])


class BareEngine:
    """A graph and a tile (H, W, C) or a batch (N, H, W, C) for it.

    Each `run` is a process of its own, so that no memory stays taken.
    """

    def __init__(self, graph: bytes, tile: Pixels, folder: Path) -> None:
        folder.mkdir()
        self._graph, self._tile = folder / "graph.onnx", folder / "tile.npy"
        self._graph.write_bytes(graph)
        np.save(self._tile, tile if tile.ndim == 4 else tile[None])

    def run(self, times: int) -> Pace:
        """Predict the tile, or the batch, that often, one after the other."""
        installed = triton.find()
        python = installed.venv / "bin" / "python"
        command = [str(part) for part in (python, PROGRAM, self._graph, self._tile, times)]
        ended = subprocess.run(command, env=installed.environment(), stdout=subprocess.PIPE, check=True)
        said = json.loads(ended.stdout)
        return Pace(mean(said["seconds"]), mean(said["cpu_seconds"]), said["facts"])
