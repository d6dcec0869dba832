"""Images of every kind of file in one dataset: ingested, then segmented."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from overtile import Client
from PIL import Image

from shared.imaging.drawing import draw_nuclei
from tests.dicom_files import write_dicom
from tests.zarr_images import write_ome_zarr

HEIGHT, WIDTH = 300, 260
LARGE = 3000  # px; uncompressed more than what is fetched whole


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pixels, _ = draw_nuclei(HEIGHT, WIDTH, seed=3, stain="histology")
    planes = np.moveaxis(pixels, 2, 0)
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    write_ome_zarr(tmp_path / "screen" / "well.ome.zarr", planes, factors=(1, 2))
    write_dicom(tmp_path / "slide.dcm", pixels)
    deep = (planes.astype(np.uint16) * 17)[[0, 1, 2, 0]]
    ome = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}
    tifffile.imwrite(tmp_path / "four.ome.tif", deep, metadata=ome, tile=(64, 64), photometric="minisblack")
    large = np.tile(pixels, (LARGE // HEIGHT, LARGE // WIDTH + 1, 1))[:LARGE, :LARGE]
    tifffile.imwrite(tmp_path / "large.tif", large, tile=(256, 256), photometric="rgb")
    return tmp_path


def test_every_format_is_ingested_and_segmented(client: Client, model: str, folder: Path, tmp_path: Path) -> None:
    version = client.datasets.upload(folder, name="formats", progress=False)
    ingest = client.jobs.wait(client.jobs.submit(kind="ingest", dataset="formats"), progress=False, timeout=120)
    assert ingest.error is None
    images = {image.name: image for image in client.datasets.images(version)}
    assert set(images) == {"plain.png", "screen/well.ome.zarr", "slide.dcm", "four.ome.tif", "large.tif"}
    assert images["four.ome.tif"].mpp == pytest.approx(0.5)
    job = client.jobs.submit(kind="segment", dataset="formats", model=model)
    job = client.jobs.wait(job, progress=False, timeout=240)
    assert job.error is None
    assert job.state == "succeeded"
    out = tmp_path.parent / "masks"
    shapes = {path.name: tifffile.imread(path).shape for path in client.jobs.download(job, out, kinds="mask")}
    assert shapes.pop("large.tif.mask.tif") == (LARGE, LARGE)
    assert set(shapes.values()) == {(HEIGHT, WIDTH)}
