"""SUMMARISE: what the images of a job have in common, by the kind of job."""

from dataclasses import replace

from services.worker.context import Context
from services.worker.stages.collected import collect_images
from services.worker.stages.summarise import summarise_job
from services.worker.stages.summarise_evaluation import summarise_evaluation
from shared.domain.blocks import Outcome
from shared.execution import Work
from shared.tables.jobs import JobKind


def summarise(context: Context, work: Work) -> Outcome:
    """Tables and a page; and what was asked for of all images together."""
    is_evaluation = work.claim.job.kind is JobKind.EVALUATE
    outcome = summarise_evaluation(context, work) if is_evaluation else summarise_job(context, work)
    return replace(outcome, artifacts=[*outcome.artifacts, *collect_images(context, work)])
