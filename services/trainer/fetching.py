"""From the object store to what a training learns from."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from safetensors.torch import load as load_tensors

from services.trainer.data import Sample, load_images, load_samples
from services.trainer.snapshot import Weights
from shared.database import Sessions
from shared.domain import datasets
from shared.errors import Rejected
from shared.execution import Work
from shared.imaging.tiling import Pixels
from shared.schemas.training import TrainIn
from shared.storage import Storage, model_key, upload_key
from shared.tables import DatasetFile
from shared.tables.datasets import FileRole

FETCHES = 16  # files on their way at once
CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class Material:
    """What a dataset version offers."""

    samples: list[Sample]
    unlabelled: list[Pixels]  # images without masks, if the order has a use for them


def fetch_material(sessions: Sessions, storage: Storage, work: Work, order: TrainIn, *, cache: Path) -> Material:
    """Read the job's dataset version. `cache`: a folder for the files while they are being read.

    Raises:
        Rejected: no image has a mask, or a file cannot be used; the text names it.
    """
    job = work.claim.job
    with sessions() as session, session.begin():
        version = datasets.find_version(session, job.workspace_id, UUID(job.spec["dataset_version"]["id"]))
        files = datasets.list_files(session, job.workspace_id, version.id)
    pairs = find_pairs(files)
    paired = {image.sha256 for _, image, _ in pairs}
    others = [file for file in files if file.role is FileRole.IMAGE and file.sha256 not in paired]
    unlabelled = others if order.localiser is not None else []
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache) as folder:

        def fetch(file: DatasetFile) -> Path:
            work.check()
            path = Path(folder) / file.sha256
            if storage.get_file(upload_key(version.dataset_id, file.sha256), path) != file.sha256:
                raise Rejected(f"{file.name}: the stored bytes do not have the announced sha256; upload the file again")
            return path

        used = [file for _, image, mask in pairs for file in (image, mask)] + unlabelled
        wanted = {file.sha256: file for file in used}
        with ThreadPoolExecutor(FETCHES) as pool:
            paths = dict(zip(wanted, pool.map(fetch, wanted.values()), strict=True))
        samples = load_samples([(name, paths[image.sha256], paths[mask.sha256]) for name, image, mask in pairs], order)
        return Material(samples, load_images([(file.name, paths[file.sha256]) for file in unlabelled], order))


def fetch_start(storage: Storage, spec: dict[str, Any]) -> Weights | None:
    """The weights of the version that the order starts from, if it names one."""
    start = spec.get("start")
    if start is None:
        return None
    key = model_key(UUID(start["model_id"]), UUID(start["version_id"]), CHECKPOINT)
    return load_weights(storage.get_verified(key, sha256=start["files"][CHECKPOINT]))


def load_weights(checkpoint: bytes) -> Weights:
    """The weights in a checkpoint.safetensors, in fp32 whatever they were stored in."""
    weights = load_tensors(checkpoint)
    return {name: weight.float() if weight.is_floating_point() else weight for name, weight in weights.items()}


def find_pairs(files: Sequence[DatasetFile]) -> list[tuple[str, DatasetFile, DatasetFile]]:
    """(name, image, mask) for every image `images/x.*` that has a mask `masks/x.*`. Raises Rejected if none has."""
    masks: dict[str, DatasetFile] = {}
    for file in files:
        if file.role is FileRole.MASK and (twin := masks.setdefault(_stem(file.name), file)) is not file:
            raise Rejected(f"{twin.name} and {file.name} are both masks of one image: keep one of them")
    images = [file for file in files if file.role is FileRole.IMAGE]
    pairs = [(file.name, file, masks[_stem(file.name)]) for file in images if _stem(file.name) in masks]
    if not pairs:
        raise Rejected("no image has a mask: name them alike, `images/a.png` and `masks/a.png`")
    return pairs


def _stem(name: str) -> str:
    """What an image and its mask have in common: the path without suffix and without folders `images` and `masks`."""
    path = PurePosixPath(name)
    folders = ["" if part in ("images", "masks") else part for part in path.parts[:-1]]
    return "/".join([*folders, path.stem])
