"""The worker put together. `python -m services.worker` executes blocks, `python -m services.worker.sweeping` sweeps."""

import atexit
from datetime import timedelta
from functools import partial

from services.worker.context import Context
from services.worker.model_server import TritonServer
from services.worker.predictor import Predictor
from services.worker.settings import WorkerSettings
from services.worker.stages.arrange import arrange_version
from services.worker.stages.assemble import assemble
from services.worker.stages.bundle import bundle
from services.worker.stages.close import close
from services.worker.stages.divide import divide
from services.worker.stages.examine import examine
from services.worker.stages.label import label
from services.worker.stages.load import load
from services.worker.stages.plan import plan
from services.worker.stages.predict import predict
from services.worker.stages.report import report_version
from services.worker.stages.summaries import summarise
from services.worker.stages.transform import transform_images
from services.worker.staging import Staging
from shared.database import make_engine, make_sessions
from shared.domain.dispatch import Dispatcher
from shared.execution import Drain, Executor
from shared.storage import Storage
from shared.tables.jobs import Stage

STAGES = {
    Stage.BUNDLE: bundle,
    Stage.PLAN: plan,
    Stage.PREDICT: predict,
    Stage.DIVIDE: divide,
    Stage.LABEL: label,
    Stage.ASSEMBLE: assemble,
    Stage.SUMMARISE: summarise,
    Stage.LOAD: load,
    Stage.ARRANGE: arrange_version,
    Stage.EXAMINE: examine,
    Stage.TRANSFORM: transform_images,
    Stage.REPORT: report_version,
    Stage.CLOSE: close,
}


def make_context(settings: WorkerSettings) -> Context:
    """Everything the stages need; nothing is contacted yet."""
    storage = Storage(settings)
    server = TritonServer(
        settings.triton_url,
        predict_seconds=settings.predict_seconds,
        load_seconds=settings.load_seconds,
        retry_seconds=settings.retry_seconds,
        shared_memory=settings.shared_memory,
    )
    return Context(
        settings=settings,
        sessions=make_sessions(make_engine(settings)),
        storage=storage,
        staging=Staging(storage, settings.cache_dir, limit=settings.cache_bytes),
        predictor=Predictor(server, storage, in_flight=settings.requests_in_flight, models_kept=settings.models_kept),
    )


def make_executor(settings: WorkerSettings, drain: Drain) -> Executor:
    """The executor of the worker's stages."""
    context = make_context(settings)
    atexit.register(context.predictor.close)  # else its shared memory would stay until the next worker sweeps
    return Executor(
        context.sessions,
        Dispatcher.from_settings(settings),
        {stage: partial(function, context) for stage, function in STAGES.items()},
        lease=timedelta(seconds=settings.lease_seconds),
        attempts=settings.block_attempts,
        drain=drain,
    )
