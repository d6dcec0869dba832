"""Evaluate jobs: found against true objects, on the whole platform."""

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from overtile import Client
from overtile.shapes import DatasetVersion, JobDetail
from PIL import Image

from deploy.local.platform import Platform
from shared.imaging.drawing import draw_nuclei
from shared.imaging.metrics.evaluation import score_image
from shared.schemas.jobs import SegmentParameters
from shared.storage import OBJECTS, Storage
from tests.e2e.conftest import bring
from tests.e2e.test_objects import keys_of, label_again
from tests.e2e.test_segmenting import ask_for, read_map

SIZES = {
    "images/a.png": (120, 140),
    "images/b.png": (133, 90),
    "images/c.png": (100, 100),
    "images/large.png": (2100, 260),
}
BARE = "images/bare.png"
MODELS = {"red": 0.5, "dim": 0.05}  # and the probability from which each recommends to take a pixel for a nucleus


@dataclass(frozen=True)
class Done:
    """A job that compared two models, and the folder it was downloaded to."""

    job: JobDetail
    out: Path
    truths: dict[str, np.ndarray]

    def rows(self, model: str) -> dict[str, dict[str, str]]:
        """The scores of one model by image."""
        with (self.out / "scores.csv").open(newline="") as file:
            return {row["name"]: row for row in csv.DictReader(file) if row["model"] == model}


def write_pictures(folder: Path, sizes: dict[str, tuple[int, int]], *, seed: int = 0) -> dict[str, np.ndarray]:
    """Draw images of nuclei, and beside them their masks; the masks by the images' names."""
    truths = {}
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number, (name, size) in enumerate(sizes.items()):
        image, truths[name] = draw_nuclei(*size, seed=seed + number, stain="fluorescence")
        Image.fromarray(image).save(folder / name)
        Image.fromarray(truths[name]).save(folder / name.replace("images", "masks"))
    return truths


def ingest(client: Client, folder: Path, name: str) -> DatasetVersion:
    version = client.datasets.upload(folder, name=name, progress=False)
    job = client.jobs.submit(kind="ingest", dataset=name, masks="instances")
    assert client.jobs.wait(job, progress=False, timeout=240).state == "succeeded"
    return version


def evaluate(client: Client, dataset: str, **order: Any) -> JobDetail:
    job = client.jobs.submit(kind="evaluate", dataset=dataset, model="red", **order)
    return client.jobs.wait(job, progress=False, timeout=240)


@pytest.fixture(scope="module")
def models(platform: Platform, red: str, red_files: Mapping[str, bytes]) -> None:
    """Two that see brightness, since the images are grey."""
    bring(platform, "dim", ask_for(red_files, threshold=MODELS["dim"]))


@pytest.fixture(scope="module")
def done(platform: Platform, models: None, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Three crops and an image of several blocks with masks, and one image without, by two models."""
    folder, out = tmp_path_factory.mktemp("evaluated"), tmp_path_factory.mktemp("out")
    truths = write_pictures(folder, SIZES)
    Image.fromarray(draw_nuclei(80, 80, seed=9, stain="fluorescence")[0]).save(folder / BARE)
    with Client(platform.url, platform.api_key) as client:
        ingest(client, folder, "evaluated")
        job = evaluate(client, "evaluated", compare_with="dim", outputs=["ome_zarr"])
        client.jobs.download(job, to=out, progress=False)
    return Done(job, out, truths)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("model", MODELS)
def test_the_scores_are_those_of_the_downloaded_map(done: Done, model: str, name: str) -> None:
    number = list(MODELS).index(model)
    parameters = SegmentParameters.of(done.job.spec, {"model": number})
    assert parameters.threshold == MODELS[model]
    planes = read_map(done.out / f"{number + 1}-{model}-1" / f"{name}.probability.zarr")
    found = label_again(done.job, planes, model=number)
    expected = score_image(
        done.truths[name], planes[0], threshold=parameters.threshold, truth_is_instances=True, found_instances=found
    )
    assert 0.05 < expected["aji"] < 1
    row = done.rows(f"{model}@1")[name]
    assert {score: float(row[score]) for score in expected} == pytest.approx(expected, abs=1e-6)
    assert (int(float(row["objects_true"])), int(float(row["objects_found"]))) == (
        np.unique(done.truths[name]).size - 1,
        found.max(),
    )


def test_an_image_of_several_blocks_was_scored_by_blocks(done: Done) -> None:
    blocks = {stage.stage: stage.blocks for stage in done.job.stages}
    assert blocks["label"] == 2 * len(MODELS)


def test_two_models_are_told_apart_by_a_paired_test(done: Done) -> None:
    report = json.loads((done.out / "evaluation.json").read_text())
    found = report["differences"]["aji"]
    rows = [done.rows(f"{model}@1") for model in MODELS]
    mean = np.mean([float(rows[0][name]["aji"]) - float(rows[1][name]["aji"]) for name in SIZES])
    assert found["mean"] == pytest.approx(mean, abs=1e-6)
    assert found["images"] == len(SIZES)
    assert 0 <= found["p"] <= 1


def test_images_without_masks_are_counted_and_named(done: Done) -> None:
    assert json.loads((done.out / "evaluation.json").read_text())["left_out"] == 1
    assert BARE in (done.out / "evaluation.html").read_text()


def test_the_page_opens_without_a_network(done: Done) -> None:
    page = (done.out / "evaluation.html").read_text()
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//[^"')\s]*""", page)
    assert "<script" not in page
    assert "@import" not in page
    assert len(re.findall(r'src="data:image/', page)) >= len(SIZES)


def test_every_image_has_a_picture_of_its_errors_for_each_model(done: Done) -> None:
    expected = {f"panels/{number}-{model}-1/{name}.png" for number, model in enumerate(MODELS, 1) for name in SIZES}
    assert {path.relative_to(done.out).as_posix() for path in (done.out / "panels").rglob("*.png")} == expected


def test_the_job_tells_its_scores(done: Done) -> None:
    assert done.job.evaluation is not None
    assert {"red@1", "dim@1"} < set(done.job.evaluation), "a classical baseline stands beside them"
    rows = done.rows("red@1")
    mean = np.mean([float(rows[name]["aji"]) for name in SIZES])
    assert done.job.evaluation["red@1"]["aji"]["mean"] == pytest.approx(mean, abs=1e-6)


def test_a_mask_that_is_gone_fails_its_image_alone(
    client: Client, platform: Platform, models: None, tmp_path: Path
) -> None:
    write_pictures(tmp_path, {"images/sound.png": (90, 90), "images/gone.png": (80, 90)}, seed=20)
    version = ingest(client, tmp_path, "a-mask-is-gone")
    (mask,) = [file for file in client.datasets.files(version) if file.name == "masks/gone.png"]
    storage = Storage(platform.load_settings())
    (key,) = [found.key for found in storage.list_objects(OBJECTS) if found.key.endswith(f"/{mask.sha256}")]
    storage.delete(key)
    job = evaluate(client, "a-mask-is-gone")
    assert job.state == "partial"
    errors = {image.name: image.error.detail for image in client.jobs.images(job) if image.error}
    assert list(errors) == ["images/gone.png"]
    assert "masks/gone.png" in errors["images/gone.png"]
    assert job.evaluation is not None
    assert job.evaluation["red@1"]["aji"]["images"] == 1
    assert {artifact.kind for artifact in client.jobs.artifacts(job)} == {"panel", "report", "table", "manifest"}
    known, stored = keys_of(platform, job)
    assert stored == set(known)
