"""The objects of a segment job, in every file that tells of them, through REST, Celery, Triton, S3 and SQL."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray
from overtile import Client
from overtile.shapes import Job, JobDetail
from PIL import Image
from pyarrow import parquet
from scipy import ndimage
from shapely.geometry import shape
from sqlalchemy import select

from deploy.local.platform import Platform
from services.worker.writers.pyramid import halve_labels
from shared.database import make_engine, make_sessions
from shared.domain import leftovers
from shared.imaging.objects.rules import ObjectRules
from shared.imaging.objects.whole import label_whole
from shared.imaging.tiling import Pixels
from shared.schemas.jobs import SegmentParameters
from shared.storage import Storage, job_key
from shared.tables import Artifact
from tests.colour_networks import draw_discs, roughen
from tests.e2e.test_segmenting import read_map, segment

Labels = NDArray[np.uint32]

EVERYTHING = ["mask", "overlay", "ome_zarr", "label_image", "ome_tiff", "table", "geojson", "coco", "contact_sheet"]
LARGE, SMALL = "field.tif", "crop.png"
SEAM = 2048  # px; where the blocks of the large image meet
WHOLE = {"depth": 4}  # so that a ring is one object, wherever it is a little narrower


@dataclass(frozen=True)
class Done:
    """A job that has ended, and the folder it was downloaded to."""

    job: JobDetail
    out: Path
    pixels: dict[str, Pixels]  # by image

    def labels(self, image: str) -> Labels:
        """The label image."""
        return np.asarray(Image.open(self.out / f"{image}.labels.png"), dtype=np.uint32)

    def table(self, image: str) -> dict[str, NDArray[Any]]:
        """The table of objects by column."""
        rows = parquet.read_table(self.out / f"{image}.objects.parquet")
        return {name: rows[name].to_numpy() for name in rows.column_names}


@pytest.fixture(scope="module")
def done(platform: Platform, red: str, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Everything that can be made of a large image, with a ring around the place where its blocks meet, and a crop."""
    large, small = draw_discs(2300, 2400, seed=1, discs=900), draw_discs(300, 280, seed=2, discs=25)
    cv2.circle(large, (SEAM, SEAM), 120, (25, 25, 25), thickness=-1)
    cv2.circle(large, (SEAM, SEAM), 90, (230, 20, 40), thickness=24)
    pixels = {LARGE: roughen(large), SMALL: roughen(small)}
    folder, out = tmp_path_factory.mktemp("drawn"), tmp_path_factory.mktemp("out")
    tifffile.imwrite(folder / LARGE, pixels[LARGE], tile=(256, 256), resolution=(40_000, 40_000), resolutionunit=3)
    Image.fromarray(pixels[SMALL]).save(folder / SMALL)
    with Client(platform.url, platform.api_key) as client:
        job = segment(client, [folder / LARGE, folder / SMALL], red, name="objects", outputs=EVERYTHING, objects=WHOLE)
        client.jobs.download(job, to=out, progress=False)
        return Done(client.jobs.get(job), out, pixels)


def label_again(job: Job, probabilities: Pixels, *, model: int = 0, stretch: float = 1) -> Labels:
    """The objects of an image that is labelled as a whole, by the rules of the job for its first or second model.

    `stretch`: how many of the image's pixels lie along one that the model saw.
    """
    parameters = SegmentParameters.of(job.spec, {"model": model})
    rules = {**parameters.objects.model_dump(), "closing": round(parameters.objects.closing * stretch)}
    return label_whole(probabilities, ObjectRules(threshold=parameters.threshold, **rules))


def assert_same_objects(found: Labels, expected: Labels) -> None:
    """Equal but for the numbers."""
    count = int(expected.max())
    numbers = np.zeros(count + 1, dtype=np.uint32)
    numbers[expected] = found
    np.testing.assert_array_equal(numbers[expected], found)
    np.testing.assert_array_equal(np.sort(numbers), np.arange(count + 1))


@pytest.fixture(params=[LARGE, SMALL])
def image(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_objects_are_those_of_the_image_labelled_whole(done: Done, image: str) -> None:
    expected = label_again(done.job, read_map(done.out / f"{image}.probability.zarr"))
    assert expected.max() >= 10
    assert_same_objects(done.labels(image), expected)


def test_an_object_in_four_blocks_is_one(done: Done) -> None:
    labels = done.labels(LARGE)
    around = [(row, column) for row in (-90, 90) for column in (-10, 10)]
    assert len({int(labels[SEAM + row, SEAM + column]) for row, column in around} - {0}) == 1


def test_the_zarr_shows_the_objects_at_every_level(done: Done, image: str) -> None:
    folder, expected = done.out / f"{image}.probability.zarr", done.labels(image)
    described = json.loads((folder / "zarr.json").read_text())["attributes"]["ome"]
    for level in described["multiscales"][0]["datasets"]:
        found = np.asarray(zarr.open_array(folder / "labels" / "objects" / level["path"], mode="r")[:])
        np.testing.assert_array_equal(found, expected)
        expected = halve_labels(expected)


def test_the_ome_tiff_shows_the_objects_at_every_level(done: Done, image: str) -> None:
    expected = done.labels(image)
    with tifffile.TiffFile(done.out / f"{image}.labels.ome.tif") as tiff:
        for level in tiff.series[0].levels:
            np.testing.assert_array_equal(level.asarray(), expected)
            expected = halve_labels(expected)


def test_the_table_measures_what_the_label_image_shows(done: Done, image: str) -> None:
    labels, table = done.labels(image), done.table(image)
    numbers = np.arange(1, labels.max() + 1)
    np.testing.assert_array_equal(table["label"], numbers)
    np.testing.assert_array_equal(table["area_px2"], np.bincount(labels.ravel())[1:])
    boxes = [(rows.start, columns.start, rows.stop, columns.stop) for rows, columns in ndimage.find_objects(labels)]
    found = np.stack([table[f"{side}_px"] for side in ("top", "left", "bottom", "right")], axis=1)
    np.testing.assert_array_equal(found, boxes)
    for number, channel in enumerate(("red", "green", "blue")):
        mean = ndimage.mean(done.pixels[image][..., number], labels, numbers)
        np.testing.assert_allclose(table[f"mean_{channel}"], mean, rtol=1e-6)


def test_lengths_in_microns_are_there_where_pixels_have_a_size(done: Done) -> None:
    table = done.table(LARGE)
    np.testing.assert_allclose(table["area_um2"], table["area_px2"] * 0.25**2, rtol=1e-6)
    assert "area_um2" not in done.table(SMALL)


def test_the_csv_has_the_rows_of_the_parquet_file(done: Done, image: str) -> None:
    table = done.table(image)
    with (done.out / f"{image}.objects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(table)
    assert [int(row["label"]) for row in rows] == table["label"].tolist()
    np.testing.assert_allclose([float(row["perimeter_px"]) for row in rows], table["perimeter_px"], rtol=1e-5)


def test_geojson_has_the_outlines_of_the_objects(done: Done, image: str) -> None:
    table = done.table(image)
    features = json.loads((done.out / f"{image}.objects.geojson").read_text())["features"]
    polygons = [shape(feature["geometry"]) for feature in features]
    assert all(polygon.is_valid for polygon in polygons)
    assert [polygon.area for polygon in polygons] == table["area_px2"].tolist()
    bounds = np.stack([table[f"{side}_px"] for side in ("left", "top", "right", "bottom")], axis=1)
    np.testing.assert_array_equal([polygon.bounds for polygon in polygons], bounds)


def test_the_hole_of_a_ring_across_blocks_is_one_hole(done: Done) -> None:
    features = json.loads((done.out / f"{LARGE}.objects.geojson").read_text())["features"]
    ring = max((shape(feature["geometry"]) for feature in features), key=lambda polygon: polygon.area)
    assert len(ring.interiors) == 1


def test_coco_has_the_objects_of_all_images(done: Done, image: str) -> None:
    described = json.loads((done.out / "coco.json").read_text())
    numbers = {each["file_name"]: each["id"] for each in described["images"]}
    ids = [each["id"] for each in described["annotations"]]
    assert ids == list(range(1, len(ids) + 1))
    own = [each for each in described["annotations"] if each["image_id"] == numbers[image]]
    table = done.table(image)
    assert [each["area"] for each in own] == table["area_px2"].tolist()
    assert [each["bbox"][:2] for each in own] == np.stack([table["left_px"], table["top_px"]], axis=1).tolist()


def test_the_summary_counts_the_objects_of_the_tables(done: Done) -> None:
    counts = {image: len(done.table(image)["label"]) for image in (LARGE, SMALL)}
    with (done.out / "summary.csv").open(newline="") as file:
        assert {row["name"]: int(row["objects"]) for row in csv.DictReader(file)} == counts
    assert done.job.summary is not None
    assert done.job.summary.objects == sum(counts.values())


def test_every_image_says_whether_it_can_be_relied_on(done: Done) -> None:
    manifest = json.loads((done.out / "manifest.json").read_text())
    for each in manifest["images"]:
        assert {"features", "flags"} <= set(each["result"]["quality"])


def test_the_crate_lists_every_file_of_the_job(done: Done) -> None:
    graph = json.loads((done.out / "ro-crate-metadata.json").read_text())["@graph"]
    listed = {entity["@id"] for entity in graph}
    files = {path.relative_to(done.out).as_posix() for path in done.out.rglob("*") if path.is_file()}
    single = {name for name in files if ".zarr/" not in name}  # a Zarr is one thing to its reader
    assert single - {"manifest.json"} <= listed | {"ro-crate-metadata.json"}


def keys_of(platform: Platform, job: Job) -> tuple[dict[str, str], set[str]]:
    """What the rows of the job's artifacts name, with the hash of each; and what lies in the store after tidying."""
    settings = platform.load_settings()
    engine, storage = make_engine(settings), Storage(settings)
    with make_sessions(engine)() as session:
        while leftovers.remove(session, storage, seconds=0):  # a round may be of other jobs
            pass
        with session.begin():
            query = select(Artifact.key, Artifact.sha256).where(Artifact.job_id == job.id)
            known = {row.key: row.sha256 for row in session.execute(query)}
    engine.dispose()
    return known, {found.key for found in storage.list_objects(job_key(job.id, ""))}


def test_a_tidied_job_leaves_nothing_in_the_store_but_what_it_lists(platform: Platform, done: Done) -> None:
    known, stored = keys_of(platform, done.job)
    assert stored == set(known)


def test_what_lies_in_the_store_has_the_hash_that_the_job_lists(platform: Platform, done: Done) -> None:
    known, _ = keys_of(platform, done.job)
    storage = Storage(platform.load_settings())
    for key, sha256 in known.items():
        storage.get_verified(key, sha256=sha256)


@pytest.mark.parametrize(
    ("outputs", "files"),
    [
        (["mask"], {f"{image}.mask.tif" for image in (LARGE, SMALL)}),
        (["geojson"], {f"{image}.objects.geojson" for image in (LARGE, SMALL)}),
        (["coco", "contact_sheet"], {"coco.json", "contact_sheet.png"}),
    ],
)
def test_only_what_was_asked_for_is_made(
    client: Client, platform: Platform, red: str, tmp_path: Path, outputs: list[str], files: set[str]
) -> None:
    tifffile.imwrite(tmp_path / LARGE, draw_discs(1200, 1250, seed=3, discs=60))
    Image.fromarray(draw_discs(100, 120, seed=4, discs=5)).save(tmp_path / SMALL)
    job = segment(client, [tmp_path / LARGE, tmp_path / SMALL], red, name="sparing", outputs=outputs)
    always = {"manifest.json", "ro-crate-metadata.json", "report.html", "summary.csv", "summary.parquet"}
    assert {artifact.name for artifact in client.jobs.artifacts(job)} == always | files
    known, stored = keys_of(platform, job)
    assert stored == set(known)
