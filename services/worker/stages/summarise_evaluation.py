"""SUMMARISE of an evaluate job: its tables, its report, and the same as JSON."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from services.worker.context import Context
from services.worker.reports.evaluation import EvaluationReport, ScoredImage, fill_evaluation
from services.worker.reports.evaluation_page import draw_evaluation
from services.worker.stages.score import Scored
from shared.domain import datasets, manifests, models
from shared.domain.blocks import NewArtifact, Outcome
from shared.domain.orders import versions
from shared.errors import Rejected
from shared.execution import Work
from shared.imaging.metrics.accumulating import Evidence
from shared.imaging.metrics.summary import as_csv, as_parquet
from shared.schemas.jobs import choose_model
from shared.storage import job_key
from shared.tables import Dataset, Job, JobImage
from shared.tables.base import Json
from shared.versions import find_versions

PAGE, DESCRIPTION, CSV, PARQUET = "evaluation.html", "evaluation.json", "scores.csv", "scores.parquet"
CSV_TYPE, PARQUET_TYPE = "text/csv", "application/vnd.apache.parquet"
MOST_NAMED = 3  # differences of two orders, in a title


def summarise_evaluation(context: Context, work: Work) -> Outcome:
    """Every image that was scored is in the tables; those that were not are in the report, with the cause.

    Raises:
        Rejected: no image was scored by the model that the order names.
    """
    job = work.claim.job
    scored, failed, notes = _gather(context, job)
    if not any(image.model == 0 for image in scored):
        raise Rejected("no image could be compared with its mask; each says why")
    parts = [part for part in (job.spec, job.spec.get("compared")) if part is not None]
    titles = name_models(parts)
    with context.sessions() as session:
        dataset, classes = _describe_data(session, job, count=len(parts))
    report = fill_evaluation(
        scored,
        titles,
        dataset=dataset,
        created=job.created_at.isoformat(timespec="seconds"),  # whoever makes it again makes the same
        class_names=max(classes, key=len),
        left_out=job.spec["left_out"]["images"],
        left_out_names=job.spec["left_out"]["names"],
        failed=failed,
        notes=notes,
        about=list(_tell_origin(job, dataset)),
    )
    thresholds = [part["parameters"]["threshold"] for part in parts]
    used = [None if len(names) > 2 else value for value, names in zip(thresholds, classes, strict=True)]
    return Outcome(artifacts=_store(context, work, report, used), result={"scores": describe(report)["models"]})


def _store(context: Context, work: Work, report: EvaluationReport, used: list[float | None]) -> list[NewArtifact]:
    job, rows = work.claim.job, report.list_rows()
    bodies = {
        PAGE: ("report", "text/html", draw_evaluation(report, used, context.storage.get)),
        DESCRIPTION: ("report", "application/json", json.dumps(describe(report), indent=1, sort_keys=True).encode()),
        CSV: ("table", CSV_TYPE, as_csv(rows)),
        PARQUET: ("table", PARQUET_TYPE, as_parquet(rows)),
    }
    work.check()  # whoever lost the block must not write over its successor's result
    put: Callable[[str, bytes], Any] = context.storage.put
    return [
        NewArtifact(kind, name, media, put(job_key(job.id, name), body)) for name, (kind, media, body) in bodies.items()
    ]


def describe(report: EvaluationReport) -> Json:
    """The report as JSON: means, differences, curves and counts, of everything but single images. NaN is null."""
    contenders = [*report.models, *([report.baseline] if report.baseline else [])]
    described: Json = _clean(
        {
            "dataset": report.dataset,
            "created": report.created,
            "primary": report.primary,
            "models": {each.title: {name: asdict(mean) for name, mean in each.means.items()} for each in contenders},
            "differences": {name: asdict(found) for name, found in report.differences.items()},
            "gains": {name: asdict(found) for name, found in report.gains.items()},
            "curves": {
                each.title: {"mean_iou": each.sweep.mean_ious.tolist(), "mean_f1": each.sweep.mean_f1s.tolist()}
                for each in report.models
                if each.sweep is not None
            },
            "calibration": {
                each.title: {
                    "pixels": each.calibration.pixels.tolist(),
                    "predicted": each.calibration.predicted.tolist(),
                    "observed": each.calibration.observed.tolist(),
                }
                for each in report.models
                if each.calibration is not None
            },
            "confusion": {each.title: each.matrix.tolist() for each in report.models if each.matrix is not None},
            "classes": list(report.class_names),
            "baseline_methods": dict(report.methods),
            "failed": [{"name": name, "reason": reason} for name, reason in report.failed],
            "notes": [{"name": name, "note": note} for name, note in report.notes],
            "left_out": report.left_out,
            "about": [list(pair) for pair in report.about],  # of two models there are words twice
        }
    )
    return described


def _clean(value: Any) -> Any:
    """The same with null for NaN, which JSON has no word for."""
    if isinstance(value, dict):
        return {name: _clean(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_clean(part) for part in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def _gather(context: Context, job: Job) -> tuple[list[ScoredImage], list[tuple[str, str]], list[tuple[str, str]]]:
    """What was scored, what failed and why, and what is said about the images' quality."""
    scored: list[ScoredImage] = []
    failed: list[tuple[str, str]] = []
    notes: dict[tuple[str, str], None] = {}  # the same of both models once
    with context.sessions() as session:
        for image in manifests.walk_images(session, job):
            scored += [_read(Scored.model_validate(finding)) for finding in image.findings]
            if not image.findings:
                failed.append((image.name, (image.error or {}).get("detail", "it was not scored")))
            notes |= dict.fromkeys((image.entry["name"], text) for text in _find_notes(image))
    return scored, failed, list(notes)


def _find_notes(image: JobImage) -> Iterator[str]:
    for flag in image.result.get("quality", {}).get("flags", ()):
        yield flag["text"]


def _read(scored: Scored) -> ScoredImage:
    baseline = scored.baseline
    return ScoredImage(
        name=scored.name,
        model=scored.model,
        evidence=Evidence.from_json(scored.evidence),
        split=scored.split,
        group=scored.group,
        method=scored.method,
        baseline=None if baseline is None else {k: np.nan if v is None else v for k, v in baseline.items()},
        panel=scored.panel,
    )


def name_models(parts: list[Mapping[str, Any]]) -> list[str]:
    """Such as nuclei@3; of one version twice also what it is asked to do differently."""
    names = [f"{part['model']['name']}@{part['model']['version']}" for part in parts]
    if len(set(names)) == len(names):
        return names
    orders = [_flatten(part["parameters"]) for part in parts]
    differing = [name for name, value in orders[0].items() if any(order.get(name) != value for order in orders[1:])]
    return [
        f"{name} ({', '.join(_say(each, order.get(each)) for each in differing[:MOST_NAMED])})"
        for name, order in zip(names, orders, strict=True)
    ]


def _flatten(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Threshold and rules of objects by name; what is made besides makes no model another."""
    return {"threshold": parameters["threshold"], **(parameters["objects"] or {})}


def _say(name: str, value: Any) -> str:
    if name == "method":
        return str(value)
    return f"{name.replace('_', ' ')} {value:g}" if isinstance(value, (int, float)) else f"{name}: {value or 'none'}"


def _describe_data(session: Session, job: Job, *, count: int) -> tuple[str, list[list[str]]]:
    """The dataset version by name, and the classes of each model, from the background on."""
    with session.begin():
        version = datasets.find_version(session, job.workspace_id, versions.find_id(job))
        dataset = session.get_one(Dataset, version.dataset_id)
    found = [models.of_image(session, job, JobImage(entry={"model": number})) for number in range(count)]
    return f"{dataset.name}@{version.number}", [list(each.contract["classes"]) for each in found]


def _tell_origin(job: Job, dataset: str) -> Iterator[tuple[str, str]]:
    yield "dataset version", f"{dataset}, sha256 {job.spec['dataset_version']['digest']}"
    if job.spec["split"]:
        yield "split", job.spec["split"]
    for number in range(2 if "compared" in job.spec else 1):
        part = choose_model(job.spec, {"model": number})
        model, parameters = part["model"], part["parameters"]
        word = "model" if number == 0 else "compared with"
        yield word, f"{model['name']}@{model['version']}, sha256 {model['digest']}"
        yield "its threshold", f"{parameters['threshold']:g}"
        yield "its objects", ", ".join(f"{name} {value}" for name, value in (parameters["objects"] or {}).items())
    yield "job", str(job.id)
    yield "software", ", ".join(f"{name} {value}" for name, value in find_versions().items())
