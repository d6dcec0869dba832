"""Tiles in memory shared with Triton: the same answers, nothing left behind, and another way where there is none."""

import os
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest

from deploy.local.stack import Stack
from services.trainer.export import Export
from services.worker import model_server
from services.worker.model_server import TritonServer
from services.worker.shared_memory import FOLDER, PREFIX, Region
from services.worker.slots import Shape, Slot
from shared.errors import Unavailable
from shared.imaging.tiling import Pixels
from tests.triton_insides import regions

# Takes a fiftieth of a second for each step of its first value, then answers the first channel.
SLOW = b"""
import time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(pb_utils.get_input_tensor_by_name(each, "IMAGE").as_numpy()) for each in requests]

    def answer(self, image):
        time.sleep(image.flat[0] / 50)
        first = np.ascontiguousarray(image[None, ..., 0].swapaxes(0, 1))
        return pb_utils.InferenceResponse([pb_utils.Tensor("PROBABILITY", first)])
"""

# Registers a region as a worker does, says its name, and waits to be killed.
CRASHING = """
import sys
from services.worker.model_server import TritonServer
server = TritonServer(sys.argv[1], predict_seconds=10, load_seconds=10)
slot = server.lend_slot((1, 64, 64, 3), (1, 1, 64, 64))
print(slot.place.region.name, flush=True)
sys.stdin.read()
"""


def test_tiles_in_shared_memory_are_answered_like_tiles_that_are_sent(
    server: TritonServer, name: str, tile: Pixels, small_export: Export
) -> None:
    server.load(name, small_export.files)
    slot = lend(server, tile, small_export)
    assert slot.place is not None
    np.testing.assert_array_equal(server.infer_slot(name, slot), server.infer(name, tile))


def test_tiles_that_do_not_fit_cost_their_slot_its_place(
    server: TritonServer, name: str, tile: Pixels, small_export: Export
) -> None:
    server.load(name, small_export.files)
    slot = lend(server, tile[:, :-1], small_export)
    with pytest.raises(Unavailable):
        server.infer_slot(name, slot)
    assert slot.place is None


def test_an_answer_stays_when_its_slot_serves_another_tile(
    server: TritonServer, name: str, tile: Pixels, small_export: Export
) -> None:
    server.load(name, small_export.files)
    slot = lend(server, tile, small_export)
    answer = server.infer_slot(name, slot)
    kept, before = answer.copy(), region_of(slot)
    server.take_back(slot)
    slot = lend(server, 255 - tile, small_export)
    assert region_of(slot) == before
    assert (server.infer_slot(name, slot) != answer).any()
    np.testing.assert_array_equal(answer, kept)


def test_a_slot_grows_with_its_tiles(server: TritonServer, url: str) -> None:
    slot = server.lend_slot((1, 64, 64, 3), (1, 1, 64, 64))
    small = region_of(slot)
    server.take_back(slot)
    slot = server.lend_slot((1, 256, 256, 3), (1, 1, 256, 256))
    assert slot.tiles.shape == (1, 256, 256, 3)
    assert region_of(slot) in regions(url)
    assert small not in regions(url)


def test_a_closed_server_leaves_no_shared_memory(url: str) -> None:
    server = TritonServer(url, predict_seconds=30, load_seconds=60)
    slot = server.lend_slot((1, 64, 64, 3), (1, 1, 64, 64))
    name = region_of(slot)
    server.take_back(slot)
    server.close()
    assert name not in regions(url)
    assert not (FOLDER / name).exists()


def test_a_late_answer_is_not_written_over_the_next_one(url: str, name: str, small_export: Export) -> None:
    server = TritonServer(url, predict_seconds=1.5, load_seconds=60)
    server.load(name, {"config.json": small_export.files["config.json"], "model.py": SLOW})
    first = server.lend_slot((1, 64, 64, 3), (1, 1, 64, 64))
    first.tiles[:] = 100  # answered after 2 s
    with pytest.raises(Unavailable, match="Deadline"):
        server.infer_slot(name, first)
    second = server.lend_slot((1, 64, 64, 3), (1, 1, 64, 64))
    second.tiles[:] = 1
    np.testing.assert_array_equal(server.infer_slot(name, second), np.ones((1, 1, 64, 64), np.uint8))
    server.close()


def test_what_a_crashed_worker_shared_is_swept(server: TritonServer, url: str) -> None:
    command = [sys.executable, "-c", CRASHING, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        name = worker.stdout.readline().strip()
        server.lend_slot((1, 64, 64, 3), (1, 1, 64, 64))
        assert name in regions(url), "its owner lives"
        worker.send_signal(signal.SIGKILL)
    server.lend_slot((1, 64, 64, 3), (1, 1, 64, 64))
    assert name not in regions(url)
    assert not (FOLDER / name).exists()


def test_a_server_that_cannot_map_our_memory_is_sent_the_tiles(
    server: TritonServer, name: str, tile: Pixels, small_export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Region, "key", "/of-another-host")
    server.load(name, small_export.files)
    slot = lend(server, tile, small_export)
    assert slot.place is None
    np.testing.assert_array_equal(server.infer_slot(name, slot), server.infer(name, tile))


def test_a_server_that_is_busy_is_asked_for_shared_memory_again(
    server: TritonServer, name: str, tile: Pixels, small_export: Export, servers: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.load(name, small_export.files)
    triton = psutil.Process(servers.process("triton").pid)
    triton.suspend()
    try:
        with monkeypatch.context() as hasty:
            hasty.setattr(model_server, "SECONDS_FOR_LITTLE", 0.3)
            assert lend(server, tile, small_export).place is None
    finally:
        triton.resume()
    assert lend(server, tile, small_export).place is not None


def test_memory_is_shared_again_with_a_server_that_was_restarted(
    server: TritonServer, name: str, tile: Pixels, small_export: Export, servers: Stack
) -> None:
    server.load(name, small_export.files)
    slot = lend(server, tile, small_export)
    before = server.infer_slot(name, slot)
    servers.process("triton").kill()
    servers.process("triton").restart()
    server.load(name, small_export.files)
    np.testing.assert_array_equal(server.infer_slot(name, slot), before)
    assert slot.place is None, "the new server does not know the region"
    assert lend(server, tile, small_export).place is not None


def test_a_slot_for_a_server_that_is_away_is_an_ordinary_array() -> None:
    server = TritonServer("127.0.0.1:1", predict_seconds=2, load_seconds=2, retry_seconds=0.2)
    ours = f"{PREFIX}{os.getpid()}-*"
    before = set(FOLDER.glob(ours))
    slot = server.lend_slot((1, 64, 64, 3), (1, 1, 64, 64))
    assert slot.place is None
    assert set(FOLDER.glob(ours)) <= before


def lend(server: TritonServer, tiles: Pixels, export: Export) -> Slot:
    """A slot that holds the tiles."""
    side = tiles.shape[1] - 2 * export.contract.halo
    answer: Shape = (len(tiles), export.contract.planes, side, side)
    slot = server.lend_slot(tiles.shape, answer)
    slot.tiles[:] = tiles
    return slot


def region_of(slot: Slot) -> str:
    assert slot.place is not None
    return slot.place.region.name
