"""What a block passes on, so that its objects can be joined with those around it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.imaging.objects.basins import SIDES, Side
from shared.imaging.objects.merging import Edges, Ints

EDGE_COLUMNS = ("first", "second", "saddles", "positions")


@dataclass(frozen=True, eq=False)
class Border:
    """Foreground pixels along one side of a block that touch foreground of the next block, from the first on."""

    positions: Ints  # (contacts,) of the pair of pixels in the image, as in `merging.Edges`
    pieces: Ints  # (contacts,) label, in the block
    heights: Ints  # (contacts,)
    across: NDArray[np.bool_]  # (contacts,) whether the pixel climbs to the one beyond


@dataclass(frozen=True, eq=False)
class Seams:
    """The pieces of a block that may go on in others; all others are whole objects."""

    pieces: int  # in the block, open or not: their labels are 1 … `pieces`
    open: Ints  # (open,) labels, ascending
    tops: Ints  # (open,) height; if a top lies in another block, the least it can be
    seeded: NDArray[np.bool_]  # (open,) whether an object may begin in the piece
    edges: Edges  # undecided, between labels of open pieces
    borders: Mapping[Side, Border]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays by name, as small as they can be, for `numpy.savez` or what else keeps arrays."""
        arrays: dict[str, NDArray[Any]] = {
            "pieces": np.array(self.pieces, dtype=np.uint32),
            "open": self.open.astype(np.uint32),
            "tops": self.tops.astype(np.uint16),
            "seeded": self.seeded,
            "edge_first": self.edges.first.astype(np.uint32),
            "edge_second": self.edges.second.astype(np.uint32),
            "edge_saddles": self.edges.saddles.astype(np.uint16),
            "edge_positions": self.edges.positions,
        }
        for side, border in self.borders.items():
            arrays[f"{side}_positions"] = border.positions
            arrays[f"{side}_pieces"] = border.pieces.astype(np.uint32)
            arrays[f"{side}_heights"] = border.heights.astype(np.uint16)
            arrays[f"{side}_across"] = border.across
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "Seams":
        """What `to_arrays` gave."""

        def ints(name: str) -> Ints:
            return arrays[name].astype(np.int64)

        return cls(
            pieces=int(arrays["pieces"]),
            open=ints("open"),
            tops=ints("tops"),
            seeded=arrays["seeded"],
            edges=Edges(*(ints(f"edge_{column}") for column in EDGE_COLUMNS)),
            borders={
                side: Border(
                    ints(f"{side}_positions"),
                    ints(f"{side}_pieces"),
                    ints(f"{side}_heights"),
                    arrays[f"{side}_across"],
                )
                for side in SIDES
            },
        )
