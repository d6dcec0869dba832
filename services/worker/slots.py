"""Slots: room for the tiles of a request and for their answer, in shared memory where that can be.

A region is registered with the model server once and used for one request after the other. One whose request failed is
never used again: the server may still be working on it, and would write its late answer over somebody else's.
"""

import logging
import math
import mmap
import threading
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from services.worker.shared_memory import PREFIX, Region, is_abandoned, remove_abandoned
from shared.errors import Unavailable
from shared.imaging.tiling import Pixels

log = logging.getLogger(__name__)

Shape = tuple[int, ...]  # (N, H, W, C) of tiles, (N, planes, h, w) of answers


class RegionRefused(Unavailable):
    """The server cannot map the region: it runs on another host, or as another user."""


class RegionHost(Protocol):
    """What slots need of a model server. Every method may raise Unavailable."""

    def register(self, region: Region) -> None:
        """Have the server map the region. Raises RegionRefused."""

    def unregister(self, name: str) -> None:
        """Have it let go; refused while a request uses the region."""

    def registered(self) -> list[str]:
        """Names of all regions it knows."""


@dataclass(frozen=True)
class Place:
    """Where a slot lies in shared memory: its tiles at the region's beginning, the answer behind them."""

    region: Region
    answer: Pixels  # (N, planes, h, w), written by the server
    answer_offset: int  # bytes


@dataclass
class Slot:
    """`tiles`, (N, H, W, C), are to be filled and asked for. Without a place, they are an ordinary array."""

    tiles: Pixels
    place: Place | None = None


class Slots:
    """Safe to share between threads. There are never more regions than slots were in use at once."""

    def __init__(self, host: RegionHost, *, shared: bool) -> None:
        self._host = host
        self._wanted = self._shared = shared
        self._free: list[Region] = []
        self._lock = threading.Lock()

    def take(self, tiles: Shape, answer: Shape) -> Slot:
        """Room for `tiles` and their `answer`; give it back when the answer has been read."""
        offset = -(-math.prod(tiles) // mmap.PAGESIZE) * mmap.PAGESIZE
        region = self._find(offset + math.prod(answer))
        if region is None:
            return Slot(np.empty(tiles, dtype=np.uint8))
        return Slot(region.array(tiles), Place(region, region.array(answer, offset=offset), offset))

    def give_back(self, slot: Slot) -> None:
        """The slot's answer has been read, or was never asked for."""
        if slot.place is not None:
            with self._lock:
                self._free.append(slot.place.region)
            slot.place = None

    def distrust(self, slot: Slot) -> None:
        """The slot's request failed. Its tiles stay as they are, and can be sent by other means."""
        if slot.place is not None:
            self._retire(slot.place.region)
            slot.place = None

    def try_again(self) -> None:
        """The server may be another one by now: what it refused before, it may accept."""
        self._shared = self._wanted

    def close(self) -> None:
        """Take back what no request uses."""
        with self._lock:
            free, self._free = self._free, []
        for region in free:
            self._retire(region)

    def _find(self, size: int) -> Region | None:
        """A free region of at least `size` bytes, else a new one in the place of one that is too small."""
        with self._lock:
            if not self._shared:
                return None
            fitting = [region for region in self._free if region.size >= size]
            found = min(fitting or self._free, key=lambda region: region.size, default=None)
            if found is not None:
                self._free.remove(found)
        if fitting:
            return found
        if found is not None:
            self._retire(found)
        return self._make(size)

    def _make(self, size: int) -> Region | None:
        try:
            remove_abandoned()
            region = Region(size)
        except OSError as error:
            log.warning("tiles are sent, not shared: no shared memory of %d bytes: %s", size, error)
            return None
        try:
            self._host.register(region)
            self._sweep()
        except RegionRefused as error:
            log.info("tiles are sent, not shared: %s", error)
            self._shared = False
        except Unavailable as error:
            log.info("these tiles are sent, not shared: %s", error)
        else:
            return region
        region.unlink()
        return None

    def _retire(self, region: Region) -> None:
        region.unlink()
        self._drop(region.name)

    def _sweep(self) -> None:
        """Have the server forget what crashed workers left there, and what it did not let go of when we asked before.

        Only a server that could map a region of ours is asked: the regions of any other lie on its own host.
        """
        for name in self._host.registered():
            if name.startswith(PREFIX) and is_abandoned(name):
                self._drop(name)

    def _drop(self, name: str) -> None:
        try:
            self._host.unregister(name)
        except Unavailable as error:
            log.info("%s stays registered for now: %s", name, error)
