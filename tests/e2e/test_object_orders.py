"""What an order says about objects, and what it makes no difference how its images were worked on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from overtile import Client
from overtile.errors import Invalid
from overtile.shapes import Job
from PIL import Image
from pyarrow import parquet
from scipy import ndimage

from deploy.local.platform import Platform
from shared.imaging.tiling import Pixels
from tests.colour_networks import draw_discs, roughen
from tests.e2e.test_objects import EVERYTHING, assert_same_objects, label_again
from tests.e2e.test_segmenting import read_map, segment


@pytest.fixture(scope="module")
def deep() -> NDArray[np.uint16]:
    """An image of 16 bits."""
    noise = np.random.default_rng(5).integers(0, 8, (900, 940, 3), dtype=np.uint16)
    return np.asarray(draw_discs(900, 940, seed=5, discs=150).astype(np.uint16) * 120 + 300 + noise, dtype=np.uint16)


@pytest.fixture(scope="module")
def both_ways(
    platform: Platform, red: str, deep: NDArray[np.uint16], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """What became of it in a bundle, its file being small, and in a block of its own, being large: folders by stage."""
    outs = {}
    with Client(platform.url, platform.api_key) as client:
        for stage, compression in (("bundle", "zlib"), ("label", None)):
            folder = tmp_path_factory.mktemp(stage)
            tifffile.imwrite(
                folder / "deep.tif", deep, photometric="rgb", compression=compression, predictor=bool(compression)
            )
            job = segment(client, [folder / "deep.tif"], red, name=f"deep-{stage}", outputs=EVERYTHING)
            assert stage in {each.stage for each in client.jobs.get(job).stages}
            client.jobs.download(job, to=folder / "out", progress=False)
            outs[stage] = folder / "out"
    return outs


@pytest.mark.parametrize(
    "file",
    ["mask.tif", "labels.png", "labels.ome.tif", "objects.parquet", "objects.csv", "objects.geojson", "overlay.png"],
)
def test_a_bundle_makes_the_file_that_blocks_make(both_ways: dict[str, Path], file: str) -> None:
    one, other = ((out / f"deep.tif.{file}").read_bytes() for out in both_ways.values())
    assert one == other


@pytest.mark.parametrize("stage", ["bundle", "label"])
def test_intensities_are_the_numbers_of_the_file(
    both_ways: dict[str, Path], deep: NDArray[np.uint16], stage: str
) -> None:
    labels = np.asarray(Image.open(both_ways[stage] / "deep.tif.labels.png"))
    table = parquet.read_table(both_ways[stage] / "deep.tif.objects.parquet")
    highest = ndimage.maximum(deep[..., 0], labels, np.arange(1, labels.max() + 1))
    assert highest.min() > 255
    np.testing.assert_array_equal(table["max_red"].to_numpy(), highest)


@pytest.fixture
def segment_one(client: Client, tmp_path: Path) -> Callable[..., tuple[Job, Path]]:
    """Segment one picture; the job and the folder with what became of `a.png`."""

    def run(pixels: Pixels, model: str, **order: Any) -> tuple[Job, Path]:
        Image.fromarray(pixels).save(tmp_path / "a.png")
        job = segment(client, [tmp_path / "a.png"], model, name=f"one-{tmp_path.name}", **order)
        client.jobs.download(job, to=tmp_path / str(job.id), progress=False)
        return job, tmp_path / str(job.id)

    return run


def test_an_object_has_the_class_of_most_of_its_pixels(
    segment_one: Callable[..., tuple[Job, Path]], colours: str
) -> None:
    job, out = segment_one(
        roughen(draw_discs(300, 320, seed=6, discs=40)), colours, outputs=["ome_zarr", "label_image", "table"]
    )
    planes, labels = read_map(out / "a.png.probability.zarr"), np.asarray(Image.open(out / "a.png.labels.png"))
    table = parquet.read_table(out / "a.png.objects.parquet").to_pydict()
    assert_same_objects(labels, label_again(job, planes))
    numbers = {"red": 1, "green": 2}
    assert set(table["class"]) == set(numbers)
    for label, name, probability in zip(table["label"], table["class"], table["class_probability"], strict=True):
        votes = np.bincount(planes[:, labels == label].argmax(axis=0), minlength=3)
        assert votes[numbers[name]] == votes[1:].max()
        assert probability == pytest.approx(planes[numbers[name], labels == label].mean() / 255, rel=1e-5)


def draw_pair() -> Pixels:
    """Two red discs that touch over a green strip between them, and a red dot of 13 px."""
    pixels = np.full((80, 120, 3), 25, dtype=np.uint8)
    for column in (40, 65):
        cv2.circle(pixels, (column, 40), 15, (230, 20, 40), thickness=-1)
    cv2.circle(pixels, (105, 12), 2, (230, 20, 40), thickness=-1)
    pixels[32:49, 51:55] = (20, 230, 40)
    return pixels


def test_an_order_may_say_what_an_object_is(segment_one: Callable[..., tuple[Job, Path]], red: str) -> None:
    pixels = draw_pair()
    pixels[32:49, 51:55] = (230, 20, 40)
    counts = []
    for objects in (None, {"method": "components"}, {"method": "components", "min_area": 10}):
        _, out = segment_one(pixels, red, outputs=["label_image"], objects=objects)
        counts.append(int(np.asarray(Image.open(out / "a.png.labels.png")).max()))
    assert counts == [2, 1, 2]


def test_pixels_of_the_border_class_belong_to_objects_of_others(
    segment_one: Callable[..., tuple[Job, Path]], colours: str
) -> None:
    job, out = segment_one(draw_pair(), colours, outputs=["ome_zarr", "table"], objects={"border_class": "green"})
    table = parquet.read_table(out / "a.png.objects.parquet").to_pydict()
    assert table["class"] == ["red", "red"]
    planes = read_map(out / "a.png.probability.zarr")
    assert sum(table["area_px2"]) == np.count_nonzero(label_again(job, planes))
    assert sum(table["area_px2"]) > np.count_nonzero(planes.argmax(axis=0) == 1), "the strip belongs to them"


@pytest.mark.parametrize("model", ["red", "colours"])
def test_an_unknown_border_class_is_refused(
    segment_one: Callable[..., tuple[Job, Path]], red: str, colours: str, model: str
) -> None:
    with pytest.raises(Invalid, match=r"objects\.border_class: the model has no class 'blue' between its objects: red"):
        segment_one(draw_pair(), model, objects={"border_class": "blue"})
