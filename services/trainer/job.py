"""TRAIN: from a dataset version to a stored model version, ready to be registered."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from services.trainer.data import Sample
from services.trainer.devices import make_fabric
from services.trainer.evaluation import Evaluation, evaluate
from services.trainer.export import Export, Serving, export_model
from services.trainer.fetching import fetch_material, fetch_start
from services.trainer.following import SNAPSHOT, JobListener, find_snapshot, track
from services.trainer.quantising import Quantiser
from services.trainer.ranks import train_on_devices
from services.trainer.reports.curves import draw_curves
from services.trainer.reports.hardware import code_version, describe_hardware
from services.trainer.reports.log import write_log
from services.trainer.reports.tensorboard import write_events
from services.trainer.settings import TrainerSettings
from services.trainer.train import Start, Trained
from shared.database import Sessions
from shared.domain import models
from shared.domain.blocks import NewArtifact, Outcome
from shared.domain.models import NewModelVersion
from shared.execution import Work
from shared.imaging.familiarity import find_familiar
from shared.imaging.metrics.summary import as_csv, as_parquet
from shared.schemas.quality import ImageStatistics
from shared.schemas.steps import image_steps, read_steps
from shared.schemas.training import TrainIn
from shared.stopwatch import Stopwatch
from shared.storage import Storage, Stored, job_key, model_key
from shared.versions import find_versions


@dataclass(frozen=True)
class Context:
    """What the stage works with; made once per process."""

    settings: TrainerSettings
    sessions: Sessions
    storage: Storage


def train_block(context: Context, work: Work) -> Outcome:
    """The whole training is one block. Its files have fixed keys, so a second try replaces those of the first.

    A try goes on from the snapshot that an earlier one left in the store.
    """
    job, clock = work.claim.job, Stopwatch()
    order = read_order(job.spec)
    with clock.step("fetch"):
        material = fetch_material(context.sessions, context.storage, work, order, cache=context.settings.cache_dir)
        order = material.order
        start = Start(fetch_start(context.storage, job.spec), material.unlabelled, find_snapshot(context.storage, work))
    with track(context.settings, work, order) as mlflow:
        with clock.step("train"):
            seconds = context.settings.checkpoint_seconds
            listener = JobListener(work, context.storage, order, seconds=seconds, mlflow=mlflow)
            trained = train_on_devices(order, material.samples, listener=listener, start=start)
        with clock.step("evaluate"):
            fabric = make_fabric(order.precision)
            evaluation = evaluate(trained.network, trained.held, order=order, fabric=fabric, check=work.check)
        with clock.step("export"):
            card = write_card(job.spec, trained, evaluation, images=len(material.samples))
            quantiser = quantiser_of(order, trained, evaluation, samples=material.samples, check=work.check)
            familiar = describe_images(material.samples)
            serving = serving_of(order, evaluation, familiar, steps=job.spec.get("steps", []))
            export = export_model(trained.network, card=card, serving=serving, quantiser=quantiser)
    work.check()  # whoever lost the block must not write over its successor's files
    with clock.step("store"):
        artifacts = [*_store_reports(context.storage, job.id, trained, evaluation), *_snapshot_artifact(listener)]
        model, model_artifacts = _store_model(context, work, order, export)
    return Outcome(result={"seconds": clock.seconds}, artifacts=[*model_artifacts, *artifacts], model=model)


def read_order(spec: Mapping[str, Any]) -> TrainIn:
    """The order as it was filled and stored when it was submitted; recipes that changed since do not matter."""
    fields = {name: value for name, value in spec["parameters"].items() if name not in ("recipe", "small", "dataset")}
    if "validation_fraction" in fields:  # orders of before there were recipes
        fields["split"] = {"by": "ratio", "fraction": fields.pop("validation_fraction")}
        fields["masks"] = {"kind": "classes" if fields["network"]["classes"] > 1 else "binary"}
    return TrainIn.model_validate({**fields, "dataset_version": spec["dataset_version"]["id"]})


def serving_of(
    order: TrainIn,
    evaluation: Evaluation,
    familiar: ImageStatistics | None = None,
    *,
    steps: Iterable[Mapping[str, Any]] = (),
) -> Serving:
    """What whoever serves the model must do around it, and by what it tells images that it knows nothing of.

    `steps`: of preprocessing, that the images it learnt from went through; those of masks and of sets are left out.
    """
    asked = order.preparation
    return Serving(
        steps=[step for each in steps for step in image_steps(read_steps([each]))],
        stain=asked.stain,
        equalise=asked.equalise,
        stretch=asked.stretch,
        invert=asked.invert,
        threshold=evaluation.threshold,
        closing=order.closing,
        objects=order.objects,
        familiar=familiar,
    )


def describe_images(samples: Iterable[Sample]) -> ImageStatistics | None:
    """What the images look like, all of which were learnt from or chosen by; None of so few that they say nothing."""
    found = find_familiar([sample.features for sample in samples if sample.features is not None])
    return None if found is None else ImageStatistics.model_validate(asdict(found))


def quantiser_of(
    order: TrainIn,
    trained: Trained,
    evaluation: Evaluation,
    *,
    samples: Sequence[Sample],
    check: Callable[[], None],
) -> Quantiser | None:
    """What tries the model in int8, if that was ordered. `samples`: all of them; those not held out set the ranges."""
    if not order.int8:
        return None
    held = {sample.name for sample in trained.held}
    return Quantiser(
        training=[sample for sample in samples if sample.name not in held],
        held=trained.held,
        threshold=evaluation.threshold,
        closing=order.closing,
        seed=order.seed,
        check=check,
    )


def write_card(spec: Mapping[str, Any], trained: Trained, evaluation: Evaluation, *, images: int) -> dict[str, Any]:
    """What a reader should know about the model, and what it takes to train it again."""
    parameters = dict(spec["parameters"])
    return {
        "recipe": parameters.get("recipe"),
        "order": parameters,
        "start": spec.get("start"),
        "dataset_version": spec["dataset_version"],
        "images": images,
        "validation_scaled_to": parameters["resize"],  # px; null: in their own size, as they are served
        "validation_images": [sample.name for sample in trained.held],
        "metrics": evaluation.summarise(),
        "threshold": evaluation.threshold,
        "seed": parameters["seed"],
        "best": asdict(trained.best),
        "history": [asdict(epoch) for epoch in trained.history],
        "seconds": round(trained.seconds, 1),
        "hardware": describe_hardware(),
        "code": code_version(),
        "software": find_versions(),
    }


def draw_reports(trained: Trained, evaluation: Evaluation) -> dict[str, bytes]:
    """Everything people look at after a training, by file name."""
    rows = evaluation.rows
    return {
        "log.csv": write_log(trained.history),
        "curves.png": draw_curves(trained.history, trained.best),
        "scores.csv": as_csv(rows),
        "scores.parquet": as_parquet(rows),
        "tensorboard/events.out.tfevents": write_events(trained.history, trained.panels),
        **{f"panels/epoch-{epoch:04}.png": png for epoch, png in trained.panels.items()},
    }


_MEDIA_TYPES = {"json": "application/json", "png": "image/png", "csv": "text/csv"}


def _store_reports(storage: Storage, job_id: UUID, trained: Trained, evaluation: Evaluation) -> list[NewArtifact]:
    return [
        NewArtifact("report", f"training/{name}", _media_type(name), storage.put(job_key(job_id, name), body))
        for name, body in draw_reports(trained, evaluation).items()
    ]


def _snapshot_artifact(listener: JobListener) -> list[NewArtifact]:
    """The last checkpoint, beside the best one that the model holds."""
    if listener.stored is None:
        return []
    return [NewArtifact("checkpoint", f"training/{SNAPSHOT}", _media_type(SNAPSHOT), listener.stored)]


def _store_model(
    context: Context, work: Work, order: TrainIn, export: Export
) -> tuple[NewModelVersion, list[NewArtifact]]:
    job = work.claim.job
    with context.sessions() as session:
        model_id = models.ensure(session, job.workspace_id, order.model)
    stored: dict[str, Stored] = {
        name: context.storage.put(model_key(model_id, job.id, name), body) for name, body in export.files.items()
    }
    model = NewModelVersion(
        model_id=model_id,
        digest=export.digest,
        files={name: file.sha256 for name, file in stored.items()},
        contract=export.contract.model_dump(mode="json"),
        card=dict(export.card),
    )
    return model, [NewArtifact("model", f"model/{name}", _media_type(name), file) for name, file in stored.items()]


def _media_type(name: str) -> str:
    return _MEDIA_TYPES.get(name.rsplit(".", 1)[-1], "application/octet-stream")
