"""The label image as a pyramidal OME-TIFF: one channel of 32 bits, its levels as SubIFDs of the first.

After the OME-TIFF specification, version 6 ("sub-resolutions").
"""

from pathlib import Path
from typing import Any, BinaryIO
from uuid import NAMESPACE_OID, uuid5

import tifffile

from services.worker.writers.label_image import label_tags
from services.worker.writers.pyramid import count_levels, find_size
from services.worker.writers.tile_spool import SpooledFile, TileSpool

REDUCED = 1  # NewSubfileType: a version of lower resolution


class LabelPyramid(SpooledFile):
    """Takes labels block by block and writes the file when its context ends without an error.

    Always as BigTIFF: readers of OME-TIFF know it, and nobody knows beforehand how well labels compress.
    """

    def __init__(
        self, file: BinaryIO, *, height: int, width: int, mpp: float | None, name: str, folder: Path | None = None
    ) -> None:
        """`mpp`: µm per pixel, if known. `name`: what a viewer calls the image. `folder`: for temporary files."""
        self._file, self._size, self._mpp, self._name = file, (height, width), mpp, name
        self._levels = count_levels(height, width)
        super().__init__(TileSpool(height, width, levels=self._levels, folder=folder))

    def _write(self) -> None:
        with tifffile.TiffWriter(self._file, bigtiff=True, byteorder="<", ome=True) as tiff:
            tiff.write(
                self._spool.take(0),
                shape=self._size,
                subifds=self._levels - 1,
                metadata=self._describe(),
                **label_tags(self._mpp),
            )
            for level in range(1, self._levels):
                tiff.write(
                    self._spool.take(level),
                    shape=find_size(*self._size, level=level),
                    subfiletype=REDUCED,
                    metadata=None,
                    **label_tags(self._mpp * 2**level if self._mpp else None),
                )

    def _describe(self) -> dict[str, Any]:
        """Attributes of the OME-XML's Image, Pixels and Channel."""
        described: dict[str, Any] = {"axes": "YX", "Name": self._name, "Channel": {"Name": "objects"}}
        described["Creator"] = "overtile"
        # A random one, as is usual, would make the same labels another file each time.
        described["UUID"] = str(uuid5(NAMESPACE_OID, f"{self._name} {self._size} {self._spool.digest}"))
        if self._mpp:
            described |= {"PhysicalSizeX": self._mpp, "PhysicalSizeXUnit": "µm"}
            described |= {"PhysicalSizeY": self._mpp, "PhysicalSizeYUnit": "µm"}
        return described
