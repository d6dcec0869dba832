"""Rows that tests begin with."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from shared.domain import blocks, jobs
from shared.domain.blocks import Claim, NewBlock, Outcome
from shared.domain.dispatch import Dispatcher
from shared.schemas.contracts import Activation, Exactness, KnownAnswer, TilingContract
from shared.schemas.jobs import SegmentIn
from shared.tables import (
    Block,
    Dataset,
    DatasetFile,
    DatasetVersion,
    Job,
    JobImage,
    Model,
    ModelVersion,
    StoredObject,
    Workspace,
)
from shared.tables.datasets import FileRole
from shared.tables.jobs import BlockState, Stage
from shared.tables.models import ModelState
from tests.doorbells import MemoryDoorbell

LEASE = timedelta(seconds=60)
LARGE = 10**9  # bytes
CONTRACT = TilingContract(
    channels=3,
    classes=["background", "nucleus"],
    activation=Activation.SIGMOID,
    halo=32,
    grid=4,
    cores=[256],
    exactness=Exactness.EXACT,
    normalisation="value / 255",
    known_answer=KnownAnswer(side=320, seed=0, step=64, answer=[[[0]]], tolerance=2),
)


def make_dispatcher(doorbell: MemoryDoorbell | None = None, *, depth: int = 1000) -> Dispatcher:
    return Dispatcher(doorbell or MemoryDoorbell(), depth, timedelta(seconds=20))


def add_version(session: Session, workspace: Workspace, names: list[str]) -> DatasetVersion:
    """A dataset version of files that no store holds; of a slide's size, unless the name says that it is small."""
    with session.begin():
        dataset = Dataset(workspace_id=workspace.id, name=uuid4().hex)
        session.add(dataset)
        session.flush()
        roles = [FileRole.MASK if name.startswith("masks/") else FileRole.IMAGE for name in names]
        version = DatasetVersion(
            workspace_id=workspace.id,
            dataset_id=dataset.id,
            number=1,
            digest=uuid4().hex,
            images=roles.count(FileRole.IMAGE),
            masks=roles.count(FileRole.MASK),
        )
        session.add(version)
        session.flush()
        for ordinal, (name, role) in enumerate(zip(names, roles, strict=True)):
            size = 1 if name.startswith("small") else LARGE
            known = {"sha256": f"{ordinal:064x}", "bytes": size}
            stored = StoredObject(workspace_id=workspace.id, key=f"tests/{version.id}/{ordinal}", **known)
            session.add(stored)
            session.flush()
            row = {"name": name, "role": role, "ordinal": ordinal, "object_id": stored.id, **known}
            session.add(DatasetFile(workspace_id=workspace.id, version_id=version.id, **row))
    return version


def add_model(
    session: Session, workspace: Workspace, name: str = "nuclei", *, state: ModelState = ModelState.READY
) -> ModelVersion:
    """A version 1 that no server holds."""
    with session.begin():
        model = Model(workspace_id=workspace.id, name=name)
        session.add(model)
        session.flush()
        version = ModelVersion(
            workspace_id=workspace.id,
            model_id=model.id,
            number=1,
            state=state,
            digest="d" * 64,
            files={},
            contract=CONTRACT.model_dump(mode="json"),
            card={},
        )
        session.add(version)
    return version


def submit(session: Session, dispatcher: Dispatcher, workspace: Workspace, *, images: int = 1, small: int = 0) -> Job:
    """A segment job; each image has a plan block that is due, and the small ones share bundles."""
    names = [f"image-{number}.png" for number in range(images)] + [f"small-{number}.png" for number in range(small)]
    version = add_version(session, workspace, names)
    add_model(session, workspace, name := "m" + uuid4().hex)
    order = SegmentIn(kind="segment", dataset_version=version.id, model=name)
    return jobs.submit(session, dispatcher, workspace.id, order, key=uuid4().hex)


def claim_next(session: Session, job: Job, *, owner: str = "worker") -> Claim | None:
    """Claim a pending block of the job, as if every pause were over."""
    with session.begin():
        session.execute(update(Block).where(Block.job_id == job.id).values(not_before=func.now()))
        pending = select(Block.id).where(Block.job_id == job.id, Block.state == BlockState.PENDING)
        # Rows of one transaction have one time; what is claimed next must not hang on their random ids.
        order = Block.created_at, Block.stage, JobImage.ordinal, Block.ordinal
        block_id = session.scalar(pending.outerjoin(JobImage, JobImage.id == Block.image_id).order_by(*order).limit(1))
    return blocks.claim(session, block_id, owner=owner, lease=LEASE) if block_id else None


def must_claim(session: Session, job: Job, *, owner: str = "worker") -> Claim:
    claim = claim_next(session, job, owner=owner)
    assert claim is not None, "no block is pending"
    return claim


def outcome_of(claim: Claim, *, regions: int = 2) -> Outcome:
    """What a worker would make of the block: a plan gives predict blocks, a division label blocks, others nothing.

    A bundle's images are all left behind, as if they had turned out to be large.
    """
    following = {Stage.PLAN: Stage.PREDICT, Stage.DIVIDE: Stage.LABEL}.get(claim.block.stage)
    if following is None:
        return Outcome()
    return Outcome(blocks=[NewBlock(following, number, {"box": [0, 0, 1, 1]}) for number in range(regions)])


def work_off(session: Session, dispatcher: Dispatcher, job: Job, *, regions: int = 2) -> Iterator[Claim]:
    """Claim and commit until nothing is pending; yields each claim before its commit."""
    while claim := claim_next(session, job):
        yield claim
        assert blocks.commit(session, dispatcher, claim, outcome_of(claim, regions=regions))


def let_lease_end(session: Session, block_id: UUID) -> None:
    """As if the owner had been silent for long enough."""
    with session.begin():
        past = Block.lease_until - 2 * LEASE
        session.execute(update(Block).where(Block.id == block_id).values(lease_until=past))
