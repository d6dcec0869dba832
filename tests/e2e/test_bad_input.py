"""Each bad image is one bad image: it works or it fails with its cause, and the rest of the job goes on."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import pytest
import tifffile
from overtile import Client
from overtile.shapes import JobDetail, JobImage
from PIL import Image

from deploy.local.platform import Platform


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes that announces 60,000 × 60,000 px."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def slide() -> bytes:
    """A slide as an Aperio scanner writes it, as far as readers look."""
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (700, 600, 3), dtype=np.uint8)
    description = "Aperio Image Library v1.0\r\n600x700 [0,0 600x700] (240x240) JPEG/RGB Q=70|AppMag = 20|MPP = 0.5"
    tifffile.imwrite(file, pixels, tile=(240, 240), compression="jpeg", description=description, metadata=None)
    return file.getvalue()


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


WORKS: dict[str, Callable[[], bytes]] = {
    "one-pixel.png": lambda: png(noise(1, 1, 3)),
    "smaller-than-the-halo.png": lambda: png(noise(7, 13, 3)),
    "one-row.png": lambda: png(noise(1, 300, 3)),
    "sixteen-bit.png": lambda: png(noise(90, 80, dtype=np.uint16)),
    "rgba.png": lambda: png(noise(90, 80, 4)),
    "grey.png": lambda: png(noise(90, 80)),
    "named-wrongly.jpg": lambda: png(noise(90, 80, 3)),
    "slide.svs": slide,
}
FAILS: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut.svs": (lambda: slide()[: len(slide()) // 2], "damaged"),
    "cut.png": (lambda: png(noise(300, 300, 3))[:5000], "damaged or cut off"),
    "text.png": (lambda: b"these are not pixels", "not an image"),
    "empty.png": (lambda: b"", "0 bytes"),
    "bomb.png": (bomb, "is the limit"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    for name, make in WORKS.items():
        (folder / name).write_bytes(make())
    for name, (make, _) in FAILS.items():
        (folder / name).write_bytes(make())
    return folder


@pytest.fixture(scope="module")
def done(platform: Platform, model: str, folder: Path) -> Iterator[tuple[JobDetail, dict[str, JobImage], list[str]]]:
    """One job of all of them together: its end, its images by name, and the names of its masks."""
    with Client(platform.url, platform.api_key) as client:
        version = client.datasets.upload([folder], name="bad-" + uuid4().hex, progress=False)
        job = client.jobs.submit(kind="segment", dataset_version=version, model=model)
        job = client.jobs.wait(job, progress=False, timeout=120)
        masks = [artifact.name for artifact in client.jobs.artifacts(job) if artifact.kind == "mask"]
        yield job, {Path(image.name).name: image for image in client.jobs.images(job)}, masks


def test_the_job_ends_partial_and_says_how_many_failed(done: tuple[JobDetail, dict[str, JobImage], list[str]]) -> None:
    job, images, masks = done
    assert job.state == "partial"
    assert job.error is not None
    assert f"{len(FAILS)} of {len(images)} images failed" in job.error.detail
    assert len(masks) == len(WORKS)


@pytest.mark.parametrize("name", WORKS)
def test_an_unusual_image_works(name: str, done: tuple[JobDetail, dict[str, JobImage], list[str]]) -> None:
    _, images, masks = done
    assert images[name].error is None
    assert images[name].state == "done"
    assert any(name in mask for mask in masks)


@pytest.mark.parametrize("name", FAILS)
def test_a_bad_image_fails_with_its_name_and_cause(
    name: str, done: tuple[JobDetail, dict[str, JobImage], list[str]]
) -> None:
    _, images, _ = done
    error = images[name].error
    assert images[name].state == "failed"
    assert error is not None
    assert error.type == "input"
    assert name in error.detail
    assert FAILS[name][1] in error.detail


def test_bytes_that_are_not_the_announced_ones_fail_that_image(
    platform: Platform, client: Client, model: str, ihc: Path, tmp_path: Path
) -> None:
    """A client that lies about a hash: the store takes the bytes, the worker does not."""
    headers = {"Authorization": f"Bearer {platform.api_key}"}
    with httpx.Client(base_url=platform.url, headers=headers) as raw:
        dataset = raw.post("/v1/datasets", json={"name": uuid4().hex}).json()
        body = {"files": [{"name": "lie.png", "sha256": "0" * 64, "bytes": 5}]}
        upload = raw.post(f"/v1/datasets/{dataset['id']}/uploads", json=body).json()["files"][0]
        httpx.put(upload["url"], content=b"12345").raise_for_status()
        version = raw.post(f"/v1/datasets/{dataset['id']}/versions", json=body).json()
        order = {"kind": "segment", "dataset_version": version["id"], "model": model}
        job = client.jobs.get(raw.post("/v1/jobs", json=order).json()["id"])
    with pytest.raises(Exception, match="do not have the announced sha256"):
        client.jobs.wait(job, progress=False, timeout=60)
    assert client.jobs.get(job.id).state == "failed"


def test_a_training_on_damaged_images_fails_by_name(client: Client, tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for name in "ab":
            (tmp_path / kind / f"{name}.png").write_bytes(png(noise(64, 64)))
    (tmp_path / "images" / "b.png").write_bytes(b"no pixels")
    version = client.datasets.upload([tmp_path], name=uuid4().hex, progress=False)
    job = client.jobs.submit(kind="train", dataset_version=version, model="damaged", epochs=1)
    with pytest.raises(Exception, match=r"b\.png"):
        client.jobs.wait(job, progress=False, timeout=60)


def test_nothing_is_left_running(client: Client, done: object) -> None:
    assert [job.id for job in client.jobs.list() if job.state in ("queued", "running", "cancelling")] == []
