"""Nothing lost, nothing twice: processes are killed while a real job runs on real servers."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from overtile import Client
from overtile.shapes import DatasetVersion, Job
from PIL import Image
from sqlalchemy import Engine, text

from deploy.local.platform import Platform
from deploy.local.stack import erase
from shared.database import make_engine
from shared.storage import Storage
from tests.conftest import IMPATIENT
from tests.e2e.conftest import Register
from tests.e2e.test_objects import EVERYTHING, keys_of

KILLS = 12
CROPS = 160
WORKERS = ("worker-1", "worker-2")
# Small blocks, so that there are many; more tries than a block can be unlucky.
SETTINGS = {**IMPATIENT, "OVERTILE_BLOCK_SIDE": "512", "OVERTILE_BLOCK_ATTEMPTS": "20", "OVERTILE_LEASE_SECONDS": "3"}
LOG_OF_COMMITS = """
CREATE TABLE commits (block_id uuid, stage text, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION log_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO commits (block_id, stage) VALUES (NEW.id, NEW.stage); RETURN NULL; END $$;
CREATE TRIGGER log_commit AFTER UPDATE OF state ON blocks FOR EACH ROW
WHEN (NEW.state = 'done') EXECUTE FUNCTION log_commit();
"""

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform to break, with two workers; its database writes down every commit of a block."""
    data = tmp_path_factory.mktemp("fragile")
    with Platform(data, durable=False, settings=SETTINGS, services={"worker": 2, "trainer": 0}) as platform:
        engine = make_engine(platform.load_settings())
        with engine.begin() as connection:
            connection.execute(text(LOG_OF_COMMITS))
        engine.dispose()
        yield platform
    erase(data)


@pytest.fixture(scope="module")
def engine(fragile: Platform) -> Iterator[Engine]:
    engine = make_engine(fragile.load_settings())
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def client(fragile: Platform) -> Iterator[Client]:
    with Client(fragile.url, fragile.api_key) as client:
        yield client


@pytest.fixture(scope="module")
def model(fragile: Platform, register: Register) -> str:
    return register(fragile, "small")


@pytest.fixture(scope="module")
def version(client: Client, picture: Callable[[int, int], Path]) -> DatasetVersion:
    """One image of 9 × 9 blocks, the last ones cut off; the same bytes in every test."""
    return client.datasets.upload([picture(4500, 4400)], name="chaos", progress=False)


@pytest.fixture(scope="module")
def undisturbed(client: Client, model: str, version: DatasetVersion) -> dict[str, str]:
    """What a run makes that nobody disturbs."""
    job = client.jobs.submit(kind="segment", dataset_version=version, model=model)
    return objects(client, client.jobs.wait(job, progress=False, timeout=120))


def objects(client: Client, job: Job) -> dict[str, str]:
    """Hash of everything the job made, by name; manifest and report hold times and ids."""
    return {a.name: a.sha256 for a in client.jobs.artifacts(job) if a.kind not in ("manifest", "report")}


def test_workers_killed_at_random_lose_nothing_and_do_nothing_twice(
    fragile: Platform, client: Client, engine: Engine, model: str, version: DatasetVersion, undisturbed: dict[str, str]
) -> None:
    job = client.jobs.submit(kind="segment", dataset_version=version, model=model)
    chance = random.Random(7)
    for _ in range(KILLS):
        wait_for_a_held_block(engine, job)
        time.sleep(chance.uniform(0, 0.4))  # not a wait for anything: the moment of the kill is random
        for name in chance.choice([WORKERS, WORKERS, WORKERS[:1], WORKERS[1:]]):
            fragile.process(name).kill()
        assert client.jobs.get(job.id).state == "running", "the job ended before all kills: make it larger"
        fragile.revive()
    job = client.jobs.wait(job, progress=False, timeout=180)
    assert job.state == "succeeded"
    assert objects(client, job) == undisturbed
    assert_committed_once(engine, job)
    assert_store_holds(fragile, engine, job)


def test_bundles_of_killed_workers_are_done_again_and_give_the_same_bytes(
    fragile: Platform, client: Client, engine: Engine, model: str, tmp_path: Path
) -> None:
    draw = np.random.default_rng(0)
    for number in range(CROPS):
        Image.fromarray(draw.integers(0, 256, (200, 180, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    crops = client.datasets.upload(tmp_path, name="crops", progress=False)
    calm = client.jobs.submit(kind="segment", dataset_version=crops, model=model)
    calm = client.jobs.wait(calm, progress=False, timeout=180)
    job = client.jobs.submit(kind="segment", dataset_version=crops, model=model)
    for _ in range(3):
        wait_for_a_held_block(engine, job)
        for name in WORKERS:
            fragile.process(name).kill()
        assert client.jobs.get(job.id).state == "running", "the job ended before all kills: make it larger"
        fragile.revive()
    job = client.jobs.wait(job, progress=False, timeout=180)
    assert job.state == "succeeded"
    assert objects(client, job) == objects(client, calm)
    assert_store_holds(fragile, engine, job)
    assert {stage.stage for stage in client.jobs.get(job).stages} == {"bundle", "summarise", "close"}


def test_objects_are_the_same_whichever_stage_loses_its_workers(
    fragile: Platform, client: Client, engine: Engine, model: str, picture: Callable[[int, int], Path]
) -> None:
    version = client.datasets.upload([picture(1600, 1500)], name="labelled", progress=False)
    order: dict[str, Any] = {"kind": "segment", "dataset_version": version, "model": model, "outputs": EVERYTHING}
    calm = client.jobs.wait(client.jobs.submit(**order), progress=False, timeout=120)
    job = client.jobs.submit(**order)
    for stage in ("label", "assemble"):
        wait_for_a_held_block(engine, job, stage=stage)
        for name in WORKERS:
            fragile.process(name).kill()
        assert client.jobs.get(job.id).state == "running", f"the job ended before the kill in {stage}: make it larger"
        fragile.revive()
    assert client.jobs.wait(job, progress=False, timeout=180).state == "succeeded"
    assert objects(client, job) == objects(client, calm)
    assert_store_holds(fragile, engine, job)
    known, stored = keys_of(fragile, job)
    assert stored == set(known), "what the tries that were killed had written is gone"


def test_an_ingest_of_killed_workers_gives_the_manifest_of_a_calm_one(
    fragile: Platform, client: Client, engine: Engine, tmp_path: Path
) -> None:
    draw = np.random.default_rng(1)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for number in range(CROPS):
        Image.fromarray(draw.integers(0, 256, (200, 180), dtype=np.uint8)).save(tmp_path / f"images/{number}.png")
        squares = draw.permutation(np.arange(90, dtype=np.uint8)).reshape(10, 9).repeat(20, axis=0).repeat(20, axis=1)
        Image.fromarray(squares).save(tmp_path / f"masks/{number}.png")
    manifests = []
    for name in ("calm", "disturbed"):
        client.datasets.upload(tmp_path, name=name, progress=False)
        job = client.jobs.submit(kind="ingest", dataset=name, masks="instances")
        for _ in range(3 if name == "disturbed" else 0):
            wait_for_a_held_block(engine, job)
            for worker in WORKERS:
                fragile.process(worker).kill()
            assert client.jobs.get(job.id).state == "running", "the job ended before all kills: make it larger"
            fragile.revive()
        client.jobs.wait(job, progress=False, timeout=180)
        manifests.append(next(a.sha256 for a in client.jobs.artifacts(job) if a.name == "dataset_manifest.json"))
        assert_store_holds(fragile, engine, job)
    assert manifests[0] == manifests[1]


def test_a_broker_that_is_restarted_empty_stops_no_job(
    fragile: Platform, client: Client, engine: Engine, model: str, version: DatasetVersion, undisturbed: dict[str, str]
) -> None:
    job = client.jobs.submit(kind="segment", dataset_version=version, model=model)
    wait_for_commits(engine, job, 20)
    fragile.process("valkey").kill()
    fragile.process("valkey").restart()
    assert client.jobs.get(job.id).state == "running"
    job = client.jobs.wait(job, progress=False, timeout=120)
    assert job.state == "succeeded"
    assert objects(client, job) == undisturbed
    assert_committed_once(engine, job)


def test_a_model_server_that_is_killed_costs_a_retry(
    fragile: Platform, client: Client, engine: Engine, model: str, version: DatasetVersion, undisturbed: dict[str, str]
) -> None:
    job = client.jobs.submit(kind="segment", dataset_version=version, model=model)
    wait_for_commits(engine, job, 10)
    fragile.process("triton").kill()
    assert fragile.revive() == ["triton"]
    job = client.jobs.wait(job, progress=False, timeout=120)
    assert job.state == "succeeded"
    assert objects(client, job) == undisturbed


def test_a_worker_asked_to_end_leaves_nothing_half_done(
    fragile: Platform, client: Client, engine: Engine, model: str, version: DatasetVersion, undisturbed: dict[str, str]
) -> None:
    job = client.jobs.submit(kind="segment", dataset_version=version, model=model)
    wait_for_commits(engine, job, 5)
    for name in WORKERS:
        fragile.process(name).stop()  # SIGTERM; no block may need its lease to run out
    with engine.connect() as connection:
        held = connection.scalar(text("SELECT count(*) FROM blocks WHERE state = 'leased'"))
    fragile.revive()
    assert held == 0
    assert client.jobs.wait(job, progress=False, timeout=120).state == "succeeded"
    assert objects(client, job) == undisturbed


def test_a_job_is_cancelled_while_it_is_being_worked_on(
    client: Client, engine: Engine, model: str, version: DatasetVersion
) -> None:
    job = client.jobs.submit(kind="segment", dataset_version=version, model=model)
    wait_for_commits(engine, job, 5)
    client.jobs.cancel(job)
    assert client.jobs.wait(job, progress=False, timeout=30).state == "cancelled"
    with engine.connect() as connection:
        query = text("SELECT count(*) FROM blocks WHERE job_id = :job AND state IN ('pending', 'leased')")
        assert connection.scalar(query, {"job": job.id}) == 0


def wait_for_a_held_block(engine: Engine, job: Job, *, stage: str | None = None) -> None:
    """Until a worker holds a block under a fresh lease: one that a killed worker left does not count."""
    fresh = "state = 'leased' AND lease_until > now() + interval '2.2 s'"
    wait_until(engine, job, fresh if stage is None else f"{fresh} AND stage = '{stage}'", 1)


def wait_for_commits(engine: Engine, job: Job, count: int) -> None:
    wait_until(engine, job, "state = 'done'", count)


def wait_until(engine: Engine, job: Job, condition: str, count: int) -> None:
    """Until `count` blocks of the job fulfil the condition."""
    query = f"SELECT count(*) FROM blocks WHERE job_id = :job AND {condition}"
    found = "SELECT stage, state, count(*) FROM blocks WHERE job_id = :job GROUP BY stage, state"
    deadline = time.monotonic() + 120
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while (connection.scalar(text(query), {"job": job.id}) or 0) < count:
            if time.monotonic() > deadline:
                rows = connection.execute(text(found), {"job": job.id}).all()
                pytest.fail(f"less than {count} blocks with {condition}: {rows}")
            time.sleep(0.01)


def assert_committed_once(engine: Engine, job: Job) -> None:
    with engine.connect() as connection:
        query = text(
            "SELECT b.id, b.state, count(c.block_id) FROM blocks b LEFT JOIN commits c ON c.block_id = b.id "
            "WHERE b.job_id = :job GROUP BY b.id, b.state"
        )
        rows = connection.execute(query, {"job": job.id}).all()
    assert len(rows) == 2 * 9 * 9 + 5  # predicted and labelled; besides, a block of every other stage
    assert {(state, commits) for _, state, commits in rows} == {("done", 1)}


def assert_store_holds(fragile: Platform, engine: Engine, job: Job) -> None:
    """What lies in the store is what the rows say."""
    storage = Storage(fragile.load_settings())
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT key, sha256 FROM artifacts WHERE job_id = :job"), {"job": job.id}).all()
    for key, sha256 in rows:
        storage.get_verified(key, sha256=sha256)
