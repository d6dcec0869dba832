"""Jobs that were begun by the version before: they are ended as if they were of this one."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from services.worker.stages.assemble import assemble
from services.worker.stages.facts import ImageFacts, probability_map
from services.worker.stages.mask_parts import MaskParts
from services.worker.stages.predict import part_name
from services.worker.stages.shards import Shards
from services.worker.writers.probability import FOLDER
from services.worker.writers.pyramid import halve_means
from shared.database import Sessions
from shared.domain import blocks
from shared.domain.blocks import Claim, NewArtifact, NewBlock, Outcome
from shared.domain.dispatch import Dispatcher
from shared.imaging.tiling import Box, Pixels
from shared.storage import Storage, image_key
from shared.tables import Block, Job, Workspace
from shared.tables.jobs import JobState, Stage
from tests.rows import CONTRACT, must_claim, outcome_of, submit, work_off

WHOLE = Box(0, 0, 600, 700)
FACTS = ImageFacts(format="TIFF", height=600, width=700, mpp=None, window=None, core=256, block_side=1024, tiles=9)


@pytest.fixture
def context(sessions: Sessions, storage: Storage) -> Any:
    return SimpleNamespace(sessions=sessions, storage=storage)


@pytest.fixture
def job(session: Session, dispatcher: Dispatcher, workspace: Workspace) -> Job:
    return submit(session, dispatcher, workspace)


@dataclass(frozen=True)
class Predicted:
    """An image of one block, predicted by the version before."""

    work: Any
    planes: Pixels


@pytest.fixture
def predicted(session: Session, dispatcher: Dispatcher, storage: Storage, job: Job) -> Predicted:
    claim = must_claim(session, job)
    block = NewBlock(Stage.PREDICT, 0, {"box": [WHOLE.top, WHOLE.left, WHOLE.bottom, WHOLE.right]})
    planned = Outcome(facts=FACTS.model_dump(mode="json"), blocks=[block])
    assert blocks.commit(session, dispatcher, claim, planned)
    claim = must_claim(session, job)
    assert claim.image is not None
    planes = np.random.default_rng(1).integers(0, 256, (1, 600, 700), dtype=np.uint8)
    key, body = next(iter(probability_map(CONTRACT, FACTS).encode_levels(WHOLE, planes).items()))  # of full resolution
    stored = storage.put(image_key(job.id, claim.image.id, f"{FOLDER}/{key}"), body)
    part = storage.put(image_key(job.id, claim.image.id, part_name(WHOLE)), b"of another make")
    made = NewArtifact("probability", key, "application/octet-stream", stored)
    assert blocks.commit(session, dispatcher, claim, Outcome(result={"part": part.sha256}, artifacts=[made]))
    return Predicted(SimpleNamespace(claim=claim, image=claim.image, check=lambda: None), planes)


def test_the_probabilities_of_a_block_of_before_are_read(context: Any, predicted: Predicted) -> None:
    shards = Shards(context, predicted.work.image, FACTS, CONTRACT)
    np.testing.assert_array_equal(shards.read(WHOLE), predicted.planes)


def test_coarser_levels_of_a_block_of_before_follow_from_its_probabilities(context: Any, predicted: Predicted) -> None:
    shards = Shards(context, predicted.work.image, FACTS, CONTRACT)
    np.testing.assert_array_equal(shards.read_level(WHOLE, 1), halve_means(predicted.planes))


def test_the_mask_of_a_block_of_before_follows_from_its_probabilities(context: Any, predicted: Predicted) -> None:
    shards = Shards(context, predicted.work.image, FACTS, CONTRACT)
    ((_, part),) = MaskParts(context, predicted.work, FACTS, shards).each()
    assert part.foreground == np.count_nonzero(predicted.planes >= 128)


@pytest.fixture
def assembling(session: Session, dispatcher: Dispatcher, job: Job) -> Claim:
    """A claim to assemble an image that nobody divided, as it followed from predicting."""
    while (claim := must_claim(session, job)).block.stage is not Stage.DIVIDE:
        assert blocks.commit(session, dispatcher, claim, outcome_of(claim))
    with session.begin():
        session.execute(update(Block).where(Block.id == claim.block.id).values(stage=Stage.ASSEMBLE))
        session.refresh(claim.block)
    return claim


def test_an_image_that_nobody_divided_is_divided_first(context: Any, assembling: Claim) -> None:
    work: Any = SimpleNamespace(claim=assembling, image=assembling.image)
    assert assemble(context, work) == Outcome(blocks=[NewBlock(Stage.DIVIDE, 0, {})])


def test_an_image_divided_late_is_assembled_after_all(
    session: Session, dispatcher: Dispatcher, job: Job, assembling: Claim
) -> None:
    assert blocks.commit(session, dispatcher, assembling, Outcome(blocks=[NewBlock(Stage.DIVIDE, 0, {})]))
    after = [claim.block.stage for claim in work_off(session, dispatcher, job)]
    assert after == [Stage.DIVIDE, Stage.LABEL, Stage.LABEL, Stage.ASSEMBLE, Stage.SUMMARISE, Stage.CLOSE]
    with session.begin():
        assert session.scalar(select(Job.state).where(Job.id == job.id)) is JobState.SUCCEEDED
