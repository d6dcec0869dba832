"""TRAIN: from a dataset version to a stored model version, ready to be registered."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from services.trainer.data import Sample, load_samples
from services.trainer.export import Export, export_model
from services.trainer.settings import TrainerSettings
from services.trainer.train import Trained, train
from shared.database import Sessions
from shared.domain import datasets, models
from shared.domain.blocks import NewArtifact, Outcome
from shared.domain.models import NewModelVersion
from shared.errors import Rejected
from shared.execution import Work
from shared.schemas.jobs import TrainIn
from shared.stopwatch import Stopwatch
from shared.storage import Storage, Stored, model_key, upload_key
from shared.tables import DatasetFile
from shared.tables.datasets import FileRole
from shared.versions import find_versions

FETCHES = 16  # files on their way at once


@dataclass(frozen=True)
class Context:
    """What the stage works with; made once per process."""

    settings: TrainerSettings
    sessions: Sessions
    storage: Storage


def train_block(context: Context, work: Work) -> Outcome:
    """The whole training is one block. Its files have fixed keys, so a second try replaces those of the first."""
    job, clock = work.claim.job, Stopwatch()
    order = TrainIn.model_validate({**job.spec["parameters"], "dataset_version": job.spec["dataset_version"]["id"]})
    with clock.step("fetch"):
        samples = _load(context, work, order)
    with clock.step("train"):
        trained = train(order, samples, check=work.check, note=work.note)
    with clock.step("export"):
        card = _write_card(job.spec, trained, images=len(samples))
        export = export_model(trained.network, card=card)
    work.check()  # whoever lost the block must not write over its successor's files
    with clock.step("store"):
        with context.sessions() as session:
            model_id = models.ensure(session, job.workspace_id, order.model)
        stored = {
            name: context.storage.put(model_key(model_id, job.id, name), body) for name, body in export.files.items()
        }
    return Outcome(
        result={"seconds": clock.seconds},
        artifacts=[NewArtifact("model", f"model/{name}", _media_type(name), file) for name, file in stored.items()],
        model=_describe(export, stored, model_id=model_id, card=card),
    )


def find_pairs(files: Sequence[DatasetFile]) -> list[tuple[str, DatasetFile, DatasetFile]]:
    """(name, image, mask) for every image `images/x.*` that has a mask `masks/x.*`. Raises Rejected if none has."""
    masks = {_stem(file.name): file for file in files if file.role is FileRole.MASK}
    images = [file for file in files if file.role is FileRole.IMAGE]
    pairs = [(file.name, file, masks[_stem(file.name)]) for file in images if _stem(file.name) in masks]
    if not pairs:
        raise Rejected("no image has a mask: name them alike, `images/a.png` and `masks/a.png`")
    return pairs


def _stem(name: str) -> str:
    """What an image and its mask have in common: the path without its suffix and without the last of the folders."""
    path = PurePosixPath(name)
    folders = ["" if part in ("images", "masks") else part for part in path.parts[:-1]]
    return "/".join([*folders, path.stem])


def _load(context: Context, work: Work, order: TrainIn) -> list[Sample]:
    job = work.claim.job
    with context.sessions() as session, session.begin():
        version = datasets.find_version(session, job.workspace_id, order.dataset_version)
        pairs = find_pairs(datasets.list_files(session, job.workspace_id, version.id))
    context.settings.cache_dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=context.settings.cache_dir) as folder:

        def fetch(file: DatasetFile) -> Path:
            work.check()
            path = Path(folder) / file.sha256
            if context.storage.get_file(upload_key(version.dataset_id, file.sha256), path) != file.sha256:
                raise Rejected(f"{file.name}: the stored bytes do not have the announced sha256; upload the file again")
            return path

        wanted = {file.sha256: file for _, image, mask in pairs for file in (image, mask)}
        with ThreadPoolExecutor(FETCHES) as pool:
            paths = dict(zip(wanted, pool.map(fetch, wanted.values()), strict=True))
        local = [(name, paths[image.sha256], paths[mask.sha256]) for name, image, mask in pairs]
        return load_samples(local, channels=order.network.channels, classes=order.network.classes)


def _write_card(spec: dict[str, Any], trained: Trained, *, images: int) -> dict[str, Any]:
    """What a reader should know about the model, and what it takes to train it again."""
    return {
        "order": spec["parameters"],
        "dataset_version": spec["dataset_version"],
        "images": images,
        "best": asdict(trained.best),
        "history": [asdict(epoch) for epoch in trained.history],
        "seconds": round(trained.seconds, 1),
        "hardware": f"{os.cpu_count()} CPU cores",
        "software": find_versions(),
    }


def _describe(export: Export, stored: dict[str, Stored], *, model_id: UUID, card: dict[str, Any]) -> NewModelVersion:
    return NewModelVersion(
        model_id=model_id,
        digest=export.digest,
        files={name: file.sha256 for name, file in stored.items()},
        contract=export.contract.model_dump(mode="json"),
        card=card,
    )


def _media_type(name: str) -> str:
    return "application/json" if name.endswith(".json") else "application/octet-stream"
