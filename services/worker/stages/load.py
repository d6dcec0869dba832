"""LOAD: put a new model version on the model server, see it answer as it should, and note what was measured."""

from services.worker.context import Context
from services.worker.inspection import check_contract, inspect
from services.worker.predictor import ServedModel
from shared.domain import models
from shared.domain.blocks import Outcome
from shared.domain.model_files import GRAPH, QUANTISED
from shared.execution import Work
from shared.imaging.tiling import Pixels
from shared.stopwatch import Stopwatch
from shared.storage import model_key


def load(context: Context, work: Work) -> Outcome:
    """Raises Rejected if graph or answers break the contract: the version is then `failed` and cannot be used."""
    clock = Stopwatch()
    with context.sessions() as session:
        model = ServedModel.of(models.of_job(session, work.claim.job))
    with clock.step("read the graph"):
        for graph in model.files.keys() & {GRAPH, QUANTISED}:
            key = model_key(model.model_id, model.version_id, graph)
            check_contract(context.storage.get_verified(key, sha256=model.files[graph]), model.contract)
    with clock.step("load and check"):
        context.predictor.ensure_loaded(model)

    def predict(tiles: Pixels, views: int = 1) -> Pixels:
        work.check()
        return context.predictor.predict(model, tiles, views)

    with clock.step("measure"):
        serving = inspect(model.contract, predict, context.predictor.describe_engine(model))
    return Outcome(result={"seconds": clock.seconds, "serving": serving.model_dump(mode="json")})
