"""Sound files of every format that is read, small: to be damaged."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np
import tifffile
import zarr
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    VLWholeSlideMicroscopyImageStorage,
)

SIDE = 160  # px
Use = Literal["slide", "mask", "array", "coco", "geojson"]
IMAGES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".svs", ".dcm"}
MASKS = {"masks", "labels", "classes"}  # names of folders


@dataclass(frozen=True)
class Whole:
    """A sound file, or a folder, and what it is read as."""

    path: Path
    use: Use
    kind: str  # files of each kind are damaged equally often


def find(data: Path, random: np.random.Generator, *, most: int = 6) -> Iterator[Whole]:
    """The slides of a folder of data sets, and some images and masks of each of its folders."""
    folders = sorted({path.parent for path in data.rglob("*") if path.suffix.lower() in IMAGES | {".npy"}})
    for folder in folders:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES | {".npy"})
        single = folder.name == "slides"
        some = random.permutation(len(files))[: None if single else most]
        chosen = [files[int(index)] for index in sorted(some)]
        for path in chosen:
            use: Use = "array" if path.suffix == ".npy" else "mask" if folder.name in MASKS else "slide"
            yield Whole(path, use, path.name if single else f"{folder.parent.name}/{folder.name}")


def make(folder: Path, random: np.random.Generator) -> Iterator[Whole]:
    """One of each kind, made here."""
    down, right = np.mgrid[:SIDE, :SIDE]
    smooth = np.stack([right, down, right // 2 + down // 2], axis=2) + random.integers(0, 30, (SIDE, SIDE, 3))
    picture, labels = smooth.astype(np.uint8), ((down // 20) * 8 + right // 20 + 1).astype(np.uint16)
    labels[::20] = 0
    yield from _make_pictures(folder, picture)
    yield from _make_tiffs(folder, picture)
    yield from _make_zarrs(folder, picture)
    yield from _make_dicoms(folder, picture)
    yield from _make_masks(folder, labels)


def _make_pictures(folder: Path, picture: np.ndarray) -> Iterator[Whole]:
    for name, options in {"a.png": {}, "a.jpg": {"quality": 90}, "progressive.jpg": {"progressive": True}}.items():
        Image.fromarray(picture).save(folder / name, **options)  # type: ignore[arg-type]
        yield Whole(folder / name, "slide", name)
    (folder / "deep.png").write_bytes(imagecodecs.png_encode(picture.astype(np.uint16) * 200))
    yield Whole(folder / "deep.png", "slide", "deep.png")


def _make_tiffs(folder: Path, picture: np.ndarray) -> Iterator[Whole]:
    grey, tiles = picture[:, :, 0].astype(np.uint16) * 99, {"tile": (64, 64), "photometric": "rgb", "metadata": None}
    medscan = {"software": "MedScan 1", "description": "Background Color=00FFFFFF;Objective Power=20"}
    aperio = "Aperio Image Library v1.0\r\n160x160 [0,0 160x160] (64x64) JPEG/RGB Q=70|AppMag = 20|MPP = 0.5"
    made: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
        "plain": (picture, {"photometric": "rgb"}),
        "lzw": (picture, {"photometric": "rgb", "rowsperstrip": 16, "compression": "lzw", "predictor": True}),
        "deflate": (picture, {**tiles, "compression": "zlib"}),
        "jpeg": (picture, {**tiles, "compression": "jpeg"}),
        "jpeg2000": (picture, {**tiles, "compression": "jpeg2000"}),
        "zstd": (grey, {"tile": (64, 64), "compression": "zstd"}),
        "big-endian": (grey, {"byteorder": ">", "bigtiff": True, "rowsperstrip": 32}),
        "float": (grey.astype(np.float32), {"compression": "packbits"}),
        "imagej": (np.stack([grey] * 3), {"imagej": True, "metadata": {"axes": "CYX"}}),
        "ome": (np.stack([grey] * 4), {"ome": True, "metadata": {"axes": "CYX", "PhysicalSizeX": 0.5}}),
        "aperio": (picture, {**tiles, "compression": "jpeg", "description": aperio}),
        "trestle": (picture, {**tiles, "compression": "jpeg", **medscan}),
    }
    for name, (pixels, options) in made.items():
        tifffile.imwrite(folder / f"{name}.tif", pixels, **options)
        yield Whole(folder / f"{name}.tif", "slide", f"TIFF {name}")


def _make_zarrs(folder: Path, picture: np.ndarray) -> Iterator[Whole]:
    for version, format_ in (("0.4", 2), ("0.5", 3)):
        root = folder / f"v{format_}.ome.zarr"
        array = zarr.create_array(
            store=str(root / "0"),
            shape=(3, SIDE, SIDE),
            chunks=(1, 64, 64),
            shards=(1, 128, 128) if format_ == 3 else None,
            dtype=np.uint8,
            zarr_format=format_,  # type: ignore[arg-type]
        )
        array[:] = picture.transpose(2, 0, 1)
        axes = [{"name": name, "type": "space" if name in "yx" else "channel"} for name in "cyx"]
        about = {"multiscales": [{"version": version, "axes": axes, "datasets": [{"path": "0"}]}]}
        if format_ == 2:
            (root / ".zgroup").write_text('{"zarr_format": 2}')
            (root / ".zattrs").write_text(json.dumps(about))
        else:
            document = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"version": version, **about}}}
            (root / "zarr.json").write_text(json.dumps(document))
        yield Whole(root, "slide", root.name)


def _make_dicoms(folder: Path, picture: np.ndarray) -> Iterator[Whole]:
    frames = [picture[top : top + 80, left : left + 80] for top in (0, 80) for left in (0, 80)]
    encoded: dict[str, tuple[UID, bytes]] = {
        "plain": (ExplicitVRLittleEndian, b"".join(frame.tobytes() for frame in frames)),
        "jpeg": (JPEGBaseline8Bit, encapsulate([bytes(imagecodecs.jpeg8_encode(frame)) for frame in frames])),
        "jpeg2000": (
            JPEG2000Lossless,
            encapsulate([bytes(imagecodecs.jpeg2k_encode(frame, level=0, codecformat="j2k")) for frame in frames]),
        ),
    }
    for name, (syntax, pixels) in encoded.items():
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = VLWholeSlideMicroscopyImageStorage, "1.2.3"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        dataset.DimensionOrganizationType, dataset.NumberOfFrames = "TILED_FULL", len(frames)
        dataset.Rows = dataset.Columns = 80
        dataset.TotalPixelMatrixRows = dataset.TotalPixelMatrixColumns = SIDE
        dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
        dataset.PhotometricInterpretation = {"jpeg": "YBR_FULL_422", "jpeg2000": "YBR_RCT"}.get(name, "RGB")
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
        dataset.PixelData = pixels
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = name != "plain"
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(folder / f"{name}.dcm", enforce_file_format=True)
        yield Whole(folder / f"{name}.dcm", "slide", f"DICOM {name}")


def _make_masks(folder: Path, labels: np.ndarray) -> Iterator[Whole]:
    (folder / "labels.png").write_bytes(imagecodecs.png_encode(labels))
    Image.fromarray((labels > 0).astype(np.uint8) * 255).convert("1").save(folder / "binary.png")
    Image.fromarray((labels % 5).astype(np.uint8)).convert("P").save(folder / "palette.png")
    tifffile.imwrite(folder / "labels.tif", labels, compression="zlib")
    tifffile.imwrite(folder / "stack.tif", np.stack([labels] * 4), compression="lzw")
    np.save(folder / "labels.npy", np.stack([labels] * 3))
    np.save(folder / "planes.npy", np.stack([labels] * 12, axis=2).reshape(SIDE, SIDE, 2, 6).transpose(2, 0, 1, 3))
    for name in ("labels.png", "binary.png", "palette.png", "labels.tif"):
        yield Whole(folder / name, "mask", f"mask {name}")
    for name in ("stack.tif", "labels.npy", "planes.npy"):
        yield Whole(folder / name, "array", f"array {name}")
    ring = [[10, 10], [60, 12], [55, 70], [10, 10]]
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}
    (folder / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature] * 5}))
    yield Whole(folder / "a.geojson", "geojson", "GeoJSON")
    image = {"id": 1, "file_name": "a.png", "width": SIDE, "height": SIDE}
    runs = {"size": [SIDE, SIDE], "counts": [9, 30, SIDE * SIDE - 39]}
    drawn = [[[10, 10, 60, 12, 55, 70]], runs]
    about = {
        "images": [image],
        "annotations": [
            {"id": index, "image_id": 1, "category_id": index, "iscrowd": 0, "segmentation": each}
            for index, each in enumerate(drawn, 1)
        ],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    (folder / "coco.json").write_text(json.dumps(about))
    yield Whole(folder / "coco.json", "coco", "COCO")
