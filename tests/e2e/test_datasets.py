"""From a lab's folder to a dataset version that is ready, and through steps to the next, on the whole platform."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from overtile import Client, Job, JobDetail
from PIL import Image
from scipy import ndimage

SIDE = 96


def draw_field(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image of bright blobs on a dark ground, and their numbers."""
    random = np.random.default_rng(seed)
    seeds = np.zeros((SIDE, SIDE), bool)
    seeds[random.integers(8, SIDE - 8, 9), random.integers(8, SIDE - 8, 9)] = True
    cells = ndimage.distance_transform_edt(~seeds) < 6
    labels, _ = ndimage.label(cells)
    noise = random.normal(0, 6, cells.shape)
    grey = np.clip(ndimage.gaussian_filter(cells * 150.0, 1) + 40 + noise, 0, 255).astype(np.uint8)
    return grey, labels.astype(np.uint16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images with masks in two splits; one mask too small, one image damaged, one image there twice."""
    for number in range(12):
        split = "train" if number < 9 else "val"
        for kind, pixels in zip(("images", "masks"), draw_field(number), strict=True):
            (tmp_path / split / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / split / kind / f"field-{number:02}.png")
    (tmp_path / "train/images/field-00.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    Image.fromarray(draw_field(1)[1][:50]).save(tmp_path / "train/masks/field-01.png")
    (tmp_path / "val/images/field-11.png").write_bytes((tmp_path / "train/images/field-02.png").read_bytes())
    return tmp_path


def run(client: Client, kind: str, **order: object) -> JobDetail:
    job: Job = client.jobs.submit(kind=kind, **order)  # type: ignore[arg-type]
    return client.jobs.wait(job, progress=False, timeout=240)


@pytest.fixture
def report(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Callable[[JobDetail], dict[str, object]]:
    """What the report of a job says; its page is checked to be there, too."""

    def fetch(job: JobDetail) -> dict[str, object]:
        out = tmp_path_factory.mktemp("report")
        paths = {path.name: path for path in client.jobs.download(job, out, kinds="report", progress=False)}
        assert b"<html" in paths["dataset_report.html"].read_bytes()[:500]
        found: dict[str, object] = json.loads(paths["dataset_report.json"].read_text())
        return found

    return fetch


def test_a_folder_becomes_a_ready_version_with_its_bad_images_named(
    client: Client, folder: Path, report: Callable[[JobDetail], dict[str, object]]
) -> None:
    version = client.datasets.upload(folder, name="lab-folder", progress=False)
    job = run(client, "ingest", dataset="lab-folder")
    assert job.state == "partial"
    assert job.result is not None
    assert (job.result.id, job.result.state) == (version.id, "ready")
    failed = {image.name: image.error.detail for image in client.jobs.images(job) if image.error}
    assert set(failed) == {"train/images/field-00.png", "train/images/field-01.png"}
    assert "50" in failed["train/images/field-01.png"], "the size of the mask is named"
    text = json.dumps(report(job))
    assert "duplicate" in text
    assert "leak_same_image" in text


def test_steps_make_a_new_version_that_can_be_learnt_from_and_its_model_serves_raw_images(
    client: Client, folder: Path, tmp_path: Path
) -> None:
    client.datasets.upload(folder, name="to-preprocess", progress=False)
    run(client, "ingest", dataset="to-preprocess")
    steps = [{"step": "greyscale"}, {"step": "normalise", "method": "percentile"}, {"step": "tile", "size": 64}]
    made = run(client, "preprocess", dataset="to-preprocess", steps=steps, into="preprocessed")
    assert made.state == "succeeded"
    again = run(client, "preprocess", dataset="to-preprocess", steps=steps, into="preprocessed")
    assert made.result is not None
    assert again.result is not None
    assert again.result.id == made.result.id
    trained = run(
        client,
        "train",
        dataset="preprocessed",
        model="of-steps",
        network={"name": "unet", "widths": [4, 8], "channels": 1},
        split={"by": "dataset"},
        crop=32,
        epochs=1,
    )
    assert trained.state == "succeeded"
    [model] = [model for model in client.models.list() if model.name == "of-steps"]
    assert [step["step"] for step in model.versions[0].contract["steps"]] == ["greyscale", "normalise"]
    raw = tmp_path / "raw.png"
    Image.fromarray(draw_field(50)[0]).save(raw)
    client.datasets.upload(raw, name="raw", progress=False)
    assert run(client, "segment", dataset="raw", model="of-steps").state == "succeeded"


def test_a_stack_with_labels_becomes_an_image_a_page(client: Client, tmp_path: Path) -> None:
    fields = [draw_field(number) for number in range(4)]
    tifffile.imwrite(tmp_path / "train-volume.tif", np.stack([grey for grey, _ in fields]), photometric="minisblack")
    membranes = np.stack([(labels == 0) * np.uint8(255) for _, labels in fields])
    tifffile.imwrite(tmp_path / "train-labels.tif", membranes, photometric="minisblack")
    client.datasets.upload(tmp_path, name="stack", progress=False)
    job = run(client, "ingest", dataset="stack")
    assert job.state == "succeeded"
    assert job.progress.images == 4
    network = {"name": "unet", "widths": [4, 8]}
    run(client, "train", dataset="stack", model="of-a-stack", crop=32, epochs=1, network=network)
