"""Slides as scanners write them, as far as TIFFs of our own making can pass for them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from shared.imaging.tiling import Pixels

TILE = {
    "tile": (64, 64),
    "compression": "jpeg",
    "photometric": "rgb",
    "metadata": None,
    "compressionargs": {"level": 95},
}

AROUND = (30, 20)  # px


def shrunk(pixels: Pixels, factor: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels).reduce(factor))


def write_levels(path: Path, levels: Sequence[Pixels], descriptions: Sequence[str], **first: object) -> None:
    """A tiled page for each level; `first` are tags of the first page."""
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for index, (level, description) in enumerate(zip(levels, descriptions, strict=True)):
            more = first if index == 0 else {}
            kind = min(index, 1)  # reduced resolution
            file.write(level, description=description or None, subfiletype=kind, **TILE, **more)  # type: ignore[arg-type]


def trestle(path: Path, pixels: Pixels) -> None:
    about = "Background Color=00F0F0F0;OverlapsXY: 0 0 0 0;Objective Power=20"
    write_levels(
        path,
        [pixels, shrunk(pixels, 2)],
        [about, ""],
        software="MedScan 4.2",
        resolution=(0.5, 0.5),
    )


def philips(path: Path, pixels: Pixels) -> None:
    def attribute(name: str, value: str, kind: str = "IString") -> str:
        return f'<Attribute Name="{name}" Group="0" Element="0" PMSVR="{kind}">{value}</Attribute>'

    def representation(spacing: float) -> str:
        inner = attribute("DICOM_PIXEL_SPACING", f'"{spacing}" "{spacing}"')
        return f'<DataObject ObjectType="PixelDataRepresentation">{inner}</DataObject>'

    levels = [pixels, shrunk(pixels, 2)]
    sequence = "".join(representation(0.0005 * factor) for factor in (1, 2))
    image = (
        attribute("PIM_DP_IMAGE_TYPE", "WSI")
        + attribute("DICOM_PIXEL_SPACING", '"0.0005" "0.0005"')
        + f'<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE"><Array>{sequence}</Array></Attribute>'
    )
    about = (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        f'<Attribute Name="PIM_DP_SCANNED_IMAGES"><Array><DataObject ObjectType="DPScannedImage">{image}</DataObject>'
        "</Array></Attribute></DataObject>"
    )
    write_levels(path, levels, [about, ""], software="Philips DP v1.0")


def leica(path: Path, pixels: Pixels) -> None:
    """The specimen lies `AROUND` (down, right) within a glass that is larger by twice that."""
    height, width = pixels.shape[:2]
    clicks = 500  # nm per pixel
    glass = f'sizeX="{(width + 2 * AROUND[1]) * clicks}" sizeY="{(height + 2 * AROUND[0]) * clicks}"'
    levels = [pixels, shrunk(pixels, 2)]
    dimensions = "".join(
        f'<dimension sizeX="{level.shape[1]}" sizeY="{level.shape[0]}" r="{index}" ifd="{index}"/>'
        for index, level in enumerate(levels)
    )
    about = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection name="a" {glass}><image name="i">'
        '<device model="Leica SCN400" version="1"/>'
        f'<pixels sizeX="{width}" sizeY="{height}">{dimensions}</pixels>'
        f'<view sizeX="{width * clicks}" sizeY="{height * clicks}" '
        f'offsetX="{AROUND[1] * clicks}" offsetY="{AROUND[0] * clicks}"/>'
        "<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings><illuminationSettings>"
        "<illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings>"
        "</image></collection></scn>"
    )
    write_levels(path, levels, [about, ""], resolution=(20_000, 20_000), resolutionunit="CENTIMETER")


def huron(path: Path, pixels: Pixels) -> None:
    write_levels(
        path,
        [pixels, shrunk(pixels, 2)],
        ["Huron\nResolution = 0.5 um", ""],
        resolution=(20_000, 20_000),
        resolutionunit="CENTIMETER",
        extratags=[(271, "s", 0, "Huron", True)],
    )


def ventana(path: Path, pixels: Pixels, *, rows: int | None = None) -> None:
    """One area of whole tiles that do not overlap."""
    down, across = (int(side) // 64 for side in pixels.shape[:2])

    def number(row: int, column: int) -> int:
        """Tiles are counted from 1 and from the bottom, every other row from the right."""
        from_bottom = down - 1 - row
        return from_bottom * across + (across - 1 - column if from_bottom % 2 else column) + 1

    def joint(direction: str, first: int, second: int) -> str:
        return (
            f'<TileJointInfo FlagJoined="1" Confidence="100" Direction="{direction}" Tile1="{first}" Tile2="{second}" '
            'OverlapX="0" OverlapY="0"/>'
        )

    places = [(row, column) for row in range(down) for column in range(across)]
    joints = "".join(joint("RIGHT", number(r, c), number(r, c + 1)) for r, c in places if c + 1 < across)
    joints += "".join(joint("UP", number(r, c), number(r - 1, c)) for r, c in places if r)
    initial = '<iScan Z-layers="1" Magnification="20" ScanRes="0.5" ScanWhitePoint="235"></iScan>'
    stitched = (
        "<EncodeInfo><SlideStitchInfo>"
        f'<ImageInfo AOIScanned="1" AOIIndex="0" NumRows="{rows or down}" NumCols="{across}" Width="64" Height="64" '
        f'Pos-X="0" Pos-Y="0">{joints}</ImageInfo></SlideStitchInfo>'
        '<AoiOrigin><AOI0 OriginX="0" OriginY="0"/></AoiOrigin></EncodeInfo>'
    )
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(
            np.full((64, 64, 3), 200, dtype=np.uint8),
            description="Label Image",
            extratags=[(700, "B", len(initial), initial.encode(), True)],
            **TILE,  # type: ignore[arg-type]
        )
        file.write(
            pixels,
            description="level=0 mag=20 quality=95",
            extratags=[(700, "B", len(stitched), stitched.encode(), True)],
            **TILE,  # type: ignore[arg-type]
        )
