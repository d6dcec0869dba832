"""LOAD: put a new model version on the model server and see it answer as it should."""

from services.worker.context import Context
from services.worker.predictor import ServedModel
from shared.domain import models
from shared.domain.blocks import Outcome
from shared.execution import Work
from shared.stopwatch import Stopwatch


def load(context: Context, work: Work) -> Outcome:
    """Raises Rejected if the answer is wrong: the version is then `failed` and cannot be used."""
    clock = Stopwatch()
    with context.sessions() as session:
        model = ServedModel.of(models.of_job(session, work.claim.job))
    with clock.step("load and check"):
        context.predictor.ensure_loaded(model)
    return Outcome(result={"seconds": clock.seconds})
