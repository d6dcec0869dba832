"""From a lab's folder to a dataset version that is ready, and through steps to the next, on the whole platform."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
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
    out, last = folder.parent / "fetched", "val/masks/field-09.png"
    assert len(client.datasets.download(version, out, role="mask", progress=False)) == 12
    assert (out / last).read_bytes() == (folder / last).read_bytes()
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


TILE = 1024  # px, of the slide's file
CELLS = {(3500, 4300): "Tumor", (3560, 4300): "Tumor", (9400, 17_500): "Stroma"}  # top and left, px → class
CELL = 40  # px, side


def draw_slide(path: Path) -> None:
    """A slide of 294 MPx, on which squares are cells."""
    height, width = 14 * TILE, 20 * TILE

    def draw() -> Iterator[np.ndarray]:
        for row, column in np.ndindex(14, 20):
            tile = np.full((TILE, TILE, 3), 235, np.uint8)
            for top, left in CELLS:
                inside = (top // TILE, left // TILE) == (row, column)
                tile[top % TILE :, left % TILE :][: CELL * inside, :CELL] = (120, 60, 150)
            yield tile

    tifffile.imwrite(
        path,
        draw(),
        shape=(height, width, 3),
        dtype=np.uint8,
        tile=(TILE, TILE),
        compression="zlib",
        photometric="rgb",
    )


def outline(top: int, left: int) -> list[list[int]]:
    return [[left, top], [left + CELL, top], [left + CELL, top + CELL], [left, top + CELL]]


def write_geojson(folder: Path) -> None:
    """As QuPath exports cells."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [outline(*place)]},
            "properties": {"objectType": "cell", "classification": {"name": called}},
        }
        for place, called in CELLS.items()
    ]
    (folder / "slide.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def write_coco(folder: Path) -> None:
    numbers = {"Stroma": 1, "Tumor": 2}
    document = {
        "images": [{"id": 9, "file_name": "slide.tif", "height": 14 * TILE, "width": 20 * TILE}],
        "categories": [{"id": number, "name": called} for called, number in numbers.items()],
        "annotations": [
            {"id": n, "image_id": 9, "category_id": numbers[called], "segmentation": [[*chain(*outline(*place))]]}
            for n, (place, called) in enumerate(CELLS.items())
        ],
    }
    (folder / "annotations.json").write_text(json.dumps(document))


@pytest.mark.parametrize(("kind", "write"), [("geojson", write_geojson), ("coco", write_coco)])
def test_a_slide_with_outlines_becomes_tiles_with_labels_and_classes(
    client: Client, tmp_path: Path, kind: str, write: Callable[[Path], None]
) -> None:
    draw_slide(tmp_path / "slide.tif")
    write(tmp_path)
    name = f"slide-with-{kind}"
    version = client.datasets.upload(tmp_path, name=name, progress=False)
    assert run(client, "ingest", dataset=name).state == "succeeded"
    [slide] = client.datasets.images(version)
    assert (slide.mask_kind, slide.classes) == (kind, ["background", "Stroma", "Tumor"])
    assert slide.statistics["labels"]["objects"] == len(CELLS)
    steps = [{"step": "tile", "size": 256, "least_foreground": 0.001}]
    made = run(client, "preprocess", dataset=name, steps=steps, into=f"{name}-tiles")
    assert made.state == "succeeded"
    assert made.result is not None
    result = client.datasets.version(made.result.dataset_id, made.result.number)
    tiles = {image.name: image for image in client.datasets.images(result)}
    assert set(tiles) == {"slide_r13_c16", "slide_r14_c16", "slide_r36_c68"}
    assert {tile.mask_kind for tile in tiles.values()} == {"instances"}
    marked: Counter[str] = Counter()
    for tile in tiles.values():
        marked.update({number: found["pixels"] for number, found in tile.statistics["labels"]["classes"].items()})
    assert marked == {"1": CELL**2, "2": 2 * CELL**2}, "Stroma, Tumor"
    names = {file.name for file in client.datasets.files(result)}
    assert {"masks/slide_r36_c68.tif", "types/slide_r36_c68.tif"} <= names


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
