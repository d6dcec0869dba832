"""Training on real servers: by a recipe, interrupted, cancelled, continued, promoted."""

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from overtile import Client, DatasetVersion, JobDetail
from PIL import Image

from deploy.local.platform import Platform
from deploy.local.stack import erase
from shared.imaging.drawing import draw_nuclei
from tests.conftest import IMPATIENT

KILLS = 3
SIDE = 64  # px
TINY = {"network": {"name": "unet", "widths": [4, 8], "batch_norm": True}, "crop": 32, "batch_size": 4}
# A snapshot after every step, one thread so that every try computes alike, and a short memory for the dead.
SETTINGS = {
    **IMPATIENT,
    "OVERTILE_CHECKPOINT_SECONDS": "0",
    "OVERTILE_LEASE_SECONDS": "3",
    "OVERTILE_BLOCK_ATTEMPTS": "2",
    "OMP_NUM_THREADS": "1",
}

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def trainers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform whose trainer is there to be killed."""
    data = tmp_path_factory.mktemp("trainers")
    with Platform(data, durable=False, settings=SETTINGS) as platform:
        yield platform
    erase(data)


@pytest.fixture(scope="module")
def client(trainers: Platform) -> Iterator[Client]:
    with Client(trainers.url, trainers.api_key) as client:
        yield client


@pytest.fixture(scope="module")
def drawn(client: Client, tmp_path_factory: pytest.TempPathFactory) -> DatasetVersion:
    """Eight images with instance masks, and two without masks."""
    folder = tmp_path_factory.mktemp("drawn")
    files: dict[str, Path] = {}
    for number in range(10):
        image, labels = draw_nuclei(SIDE, SIDE, seed=number, stain="fluorescence")
        pictures: dict[str, Any] = {"images": image, "masks": labels} if number < 8 else {"images": image}
        for role, picture in pictures.items():
            path = folder / f"{role}-{number}.png"
            Image.fromarray(picture).save(path)
            files[f"{role}/{number}.png"] = path
    return client.datasets.upload(files, name="drawn", progress=False)


def order(client: Client, **changes: Any) -> JobDetail:
    job = client.jobs.submit(kind="train", dataset="drawn", **changes)
    return client.jobs.get(job)


def finish(client: Client, job: JobDetail) -> JobDetail:
    ended = client.jobs.wait(job, progress=False, timeout=300)
    assert ended.state == "succeeded", ended.error
    return ended


def checkpoint(client: Client, job: JobDetail) -> str:
    """Hash of the best weights."""
    return next(a.sha256 for a in client.jobs.artifacts(job) if a.name == "model/checkpoint.safetensors")


def wait_for_epoch(client: Client, job: JobDetail, epoch: int) -> None:
    deadline = time.monotonic() + 60
    while client.jobs.get(job).note.get("epoch", 0) < epoch:
        assert time.monotonic() < deadline, f"the training never reached epoch {epoch}"
        time.sleep(0.05)  # polling, with a deadline


def test_a_trainer_killed_at_any_step_ends_with_the_weights_of_an_undisturbed_run(
    trainers: Platform, client: Client, drawn: DatasetVersion
) -> None:
    long = {**TINY, "epochs": 60, "deterministic": True, "augmentation": {"rotate": 20, "contrast": 0.2}}
    undisturbed = finish(client, order(client, model="undisturbed", **long))
    job = order(client, model="killed", **long)
    for kill in range(1, KILLS + 1):
        wait_for_epoch(client, job, 6 * kill)
        trainers.process("trainer-1").kill()
        assert trainers.revive() == ["trainer-1"]
    killed = finish(client, job)  # two tries per block: tries that got somewhere do not count
    assert checkpoint(client, killed) == checkpoint(client, undisturbed)
    log = (trainers.data / "logs" / "trainer-1.log").read_text()
    assert log.count("goes on from") >= KILLS


def test_one_request_trains_a_recipe_to_a_model_that_can_be_promoted_and_used(
    client: Client, drawn: DatasetVersion, tmp_path: Path
) -> None:
    changes = {"network": {"widths": [4, 8]}, "crop": 32, "epochs": 2, "masks": {"kind": "instances"}}
    job = finish(client, order(client, recipe="nuclei-starter", **changes))
    version = client.models.get("nuclei-starter").versions[0]
    assert version.state == "ready"
    assert version.card["recipe"] == "nuclei-starter"
    assert version.card["order"]["optimiser"] == "adamw"  # from the recipe
    assert {"jaccard", "f1", "accuracy", "ap50"} <= version.card["metrics"].keys()
    assert {"hardware", "code", "seed", "seconds", "software", "dataset_version"} <= version.card.keys()
    client.jobs.download(job, tmp_path, kinds=["report", "checkpoint"])
    reports = {path.name for path in (tmp_path / "training").iterdir()}
    assert {
        "log.csv",
        "curves.png",
        "scores.csv",
        "scores.parquet",
        "panels",
        "tensorboard",
        "last.checkpoint",
    } <= reports
    assert Image.open(io.BytesIO((tmp_path / "training" / "curves.png").read_bytes())).width > 800
    client.models.promote("nuclei-starter", version.number, alias="production")
    used = client.jobs.submit(kind="segment", dataset="drawn", model="nuclei-starter@production")
    ended = finish(client, client.jobs.get(used))
    assert ended.spec["model"]["version"] == version.number
    assert ended.spec["parameters"]["threshold"] == pytest.approx(version.card["threshold"])


def test_a_training_tries_its_model_in_int8_if_asked(client: Client, drawn: DatasetVersion) -> None:
    finish(client, order(client, model="eight-bits", **TINY, epochs=1, int8=True))
    version = client.models.get("eight-bits").versions[0]
    found = version.card["int8"]
    assert found.keys() == {"dice_fp32", "dice_int8", "off_known_answer", "taken"}
    assert version.contract["precision"] == ("int8" if found["taken"] else "auto")


def test_a_version_is_fine_tuned_from_another(client: Client, drawn: DatasetVersion) -> None:
    finish(client, order(client, model="first", **TINY, epochs=2))
    start = {"model": "first@1", "freeze_encoder": True}
    finish(client, order(client, model="second", **TINY, epochs=1, learning_rate=1e-3, start=start))
    card = client.models.get("second").versions[0].card
    assert card["start"]["name"] == "first"


def test_a_spatial_transformer_learns_first_from_images_without_masks_and_segments(
    client: Client, drawn: DatasetVersion
) -> None:
    network = {"name": "unet_stn", "widths": [4, 8], "overview": 32}
    changes = {"network": network, "crop": 64, "epochs": 1, "preparation": {"equalise": True}, "closing": 1}
    finish(client, order(client, model="stn", batch_size=4, localiser={"epochs": 2}, **changes))
    used = client.jobs.submit(kind="segment", dataset="drawn", model="stn")
    ended = finish(client, client.jobs.get(used))
    assert ended.spec["parameters"]["closing"] == 1


def test_a_training_is_cancelled_in_mid_epoch(client: Client, drawn: DatasetVersion) -> None:
    job = order(client, model="cancelled", **TINY, epochs=10_000)
    wait_for_epoch(client, job, 2)
    client.jobs.cancel(job)
    assert client.jobs.wait(job, progress=False, timeout=30).state == "cancelled"
