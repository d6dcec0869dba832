"""From the object store to what a training learns from."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from safetensors.torch import load as load_tensors

from services.trainer.data import Sample, load_images, load_samples
from services.trainer.learning_images import LearningImage, find_images, follow_dataset
from services.trainer.snapshot import Weights
from shared.database import Sessions
from shared.domain import datasets
from shared.domain.fetching import fetch
from shared.domain.orders import versions
from shared.domain.orders.train import CHECKPOINT
from shared.errors import Rejected
from shared.execution import Work
from shared.imaging.tiling import Pixels
from shared.schemas.training import TrainIn
from shared.storage import Storage, model_key
from shared.tables import StoredObject

FETCHES = 16  # files on their way at once


@dataclass(frozen=True)
class Material:
    """What a dataset version offers. `order` has the version's own split in it, if it asked for that."""

    order: TrainIn
    samples: list[Sample]
    unlabelled: list[Pixels]  # images without masks, if the order has a use for them


def fetch_material(sessions: Sessions, storage: Storage, work: Work, order: TrainIn, *, cache: Path) -> Material:
    """Read the job's dataset version. `cache`: a folder for the files while they are being read.

    Raises:
        Rejected: no image has a mask, or a file cannot be used; the text names it.
    """
    with sessions() as session, session.begin():
        version = datasets.find_version(session, work.claim.job.workspace_id, versions.find_id(work.claim.job))
        images = find_images(session, version, kind=order.masks.kind)
    pairs = [image for image in images if image.mask is not None]
    if not pairs:
        raise Rejected("no image has a mask: name them alike, `images/a.png` and `masks/a.png`")
    order = follow_dataset(order, pairs)
    others = [image for image in images if image.mask is None] if order.localiser is not None else []
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache) as folder:

        def fetch_one(pair: tuple[StoredObject, str]) -> Path:
            work.check()
            file, name = pair
            fetch(storage, file, path := Path(folder) / str(file.id), name=name)
            return path

        wanted = {file.id: (file, name) for image in pairs + others for file, name in _name_files(image)}
        with ThreadPoolExecutor(FETCHES) as pool:
            paths = dict(zip(wanted, pool.map(fetch_one, wanted.values()), strict=True))
        triples = [(image.name, paths[image.file.id], paths[image.mask.id]) for image in pairs if image.mask]
        samples = load_samples(triples, order)
        return Material(order, samples, load_images([(image.name, paths[image.file.id]) for image in others], order))


def _name_files(image: LearningImage) -> list[tuple[StoredObject, str]]:
    """The files of an image, each with what messages call it."""
    of_mask = [] if image.mask is None else [(image.mask, f"the mask of {image.name}")]
    return [(image.file, image.name), *of_mask]


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
