"""Many small images in one job, through REST, Celery, Triton, S3 and SQL."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from overtile import Client
from overtile.shapes import Job
from PIL import Image

from deploy.local.platform import Platform
from services.trainer.export import Export
from services.trainer.networks import UNet
from shared.imaging.normalisation import find_window
from shared.imaging.preparation import prepare
from shared.imaging.tiling import Pixels
from shared.schemas.preparation import PreparationIn
from tests.e2e.conftest import bring
from tests.e2e.test_segmenting import answer_whole, ask_for, digests, read_map, segment

STAGES = ["bundle", "plan", "predict", "divide", "label", "assemble", "summarise", "close"]
SIZES = [(256, 256), (200, 256), (97, 130), (300, 280), (256, 255), (1, 40), (512, 512)]


def draw(height: int, width: int, seed: int) -> Pixels:
    rows, columns = np.mgrid[:height, :width]
    waves = 127 + 90 * np.sin(rows / (5 + seed)) * np.cos(columns / 9)
    noise = np.random.default_rng(seed).integers(-30, 30, (height, width, 3))
    return np.asarray(np.clip(waves[..., None] + noise, 0, 255), dtype=np.uint8)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pixels]:
    """Name → pixels: three of each size, more than a batch of the commonest."""
    sizes = [size for size in SIZES for _ in range(3)] + [(256, 256)] * 10
    return {f"crop-{number:02}.png": draw(*size, number) for number, size in enumerate(sizes)}


@pytest.fixture(scope="module")
def folder(crops: dict[str, Pixels], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    for name, pixels in crops.items():
        Image.fromarray(pixels).save(folder / name)
    return folder


def test_every_image_of_a_bundle_gets_the_answer_it_would_get_alone(
    client: Client, model: str, folder: Path, crops: dict[str, Pixels], small_network: UNet, tmp_path: Path
) -> None:
    job = segment(client, sorted(folder.iterdir()), model, name="bundle")
    client.jobs.download(job, to=tmp_path, progress=False)
    assert stages_of(client, job) == {"bundle", "summarise", "close"}
    for name, pixels in crops.items():
        got = read_map(tmp_path / f"{name}.probability.zarr")[0]
        whole = answer_whole(small_network, pixels, small_network.halo, small_network.grid)
        assert got.shape == pixels.shape[:2]
        assert np.abs(got - 255 * whole).mean() < 1.5, name
        np.testing.assert_array_equal(tifffile.imread(tmp_path / f"{name}.mask.tif"), got >= 127.5)
        with Image.open(tmp_path / f"{name}.overlay.png") as overlay:
            assert max(overlay.size) >= 256


def test_a_crop_is_prepared_as_a_whole_image_is(
    platform: Platform, client: Client, small_export: Export, small_network: UNet, tmp_path: Path
) -> None:
    """16 bits, to their window; then stretched between percentiles; then inverted."""
    bring(platform, "stretching", ask_for(small_export.files, stretch=[2, 95], invert=True))
    deep = draw(210, 190, 3).astype(np.uint16) * 11 + 300
    path = tmp_path / "deep.tif"
    tifffile.imwrite(path, deep, photometric="rgb")
    job = segment(client, [path], "stretching", name="deep")
    client.jobs.download(job, to=tmp_path, kinds=["probability"], progress=False)
    assert stages_of(client, job) == {"bundle", "summarise", "close"}
    seen = find_window([deep]).apply(deep)
    image = prepare(seen, PreparationIn(stretch=(2, 95), invert=True))
    got = read_map(tmp_path / "deep.tif.probability.zarr")[0]
    whole = answer_whole(small_network, image, small_network.halo, small_network.grid)
    assert np.abs(got - 255 * whole).max() <= 1
    assert np.abs(got - 255 * answer_whole(small_network, seen, small_network.halo, small_network.grid)).mean() > 3


def test_the_same_crop_gets_the_same_bytes_whatever_shares_its_bundle(client: Client, model: str, folder: Path) -> None:
    paths = sorted(folder.iterdir())
    together = digests(client, segment(client, paths, model, name="bundle"))
    alone = digests(client, segment(client, paths[3:4], model, name="alone"))
    of_image = {name: digest for name, digest in alone.items() if name.startswith(paths[3].name)}
    assert f"{paths[3].name}.objects.parquet" in of_image
    assert of_image.items() <= together.items()


def test_bad_and_large_images_leave_the_rest_of_their_bundle_alone(
    client: Client, model: str, folder: Path, tmp_path: Path
) -> None:
    good = sorted(folder.iterdir())[:4]
    torn, large = tmp_path / "torn.png", tmp_path / "large.png"
    torn.write_bytes(good[0].read_bytes()[:500])
    Image.fromarray(np.full((1500, 1100, 3), 200, dtype=np.uint8)).save(large)
    job = segment(client, [*good, torn, large], model, name="mixed")
    assert job.state == "partial"
    states = {image.name: (image.state, image.error) for image in client.jobs.images(job)}
    failed = {name: error for name, (state, error) in states.items() if state != "done"}
    assert list(failed) == ["torn.png"]
    assert failed["torn.png"] is not None
    assert "torn.png: the PNG is damaged or cut off" in failed["torn.png"].detail
    assert stages_of(client, job) == set(STAGES)


def stages_of(client: Client, job: Job) -> set[str]:
    return {stage.stage for stage in client.jobs.get(job).stages}
