"""Which images of a dataset version are learnt from, and which mask belongs to each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from sqlalchemy.orm import Session

from shared.domain import datasets
from shared.domain.orders import versions
from shared.errors import Rejected
from shared.imaging.steps.sets import split
from shared.schemas.step_kinds import SplitStep
from shared.schemas.training import DatasetSplit, ListSplit, RatioSplit, TrainIn
from shared.tables import DatasetFile, DatasetVersion, StoredObject
from shared.tables.datasets import FileRole, VersionState


@dataclass(frozen=True)
class LearningImage:
    """An image by its name in the dataset, where its bytes are, and what the version says about it."""

    name: str
    file: StoredObject
    mask: StoredObject | None
    split: str | None = None
    group: str | None = None  # what must not be parted, such as the tiles of a slide or the variants of a tile


def find_images(session: Session, version: DatasetVersion, *, kind: str) -> list[LearningImage]:
    """The images that may be learnt from, within the caller's transaction: those kept for tests are left out.

    Of a version that is ready, what its manifest says; of any other, what the names of its files say. `kind`: of masks
    that the order learns from; some images have two, one of instances and one of classes.

    Raises:
        Rejected: an image consists of several files, or two masks claim one image.
    """
    files = datasets.list_files(session, version.workspace_id, version.id)
    if version.state is not VersionState.READY:
        return match_names(files)
    by_name = {file.name: file for file in files}
    accepted = [image for image in versions.accepted(session, version) if image.split != "test"]
    for image in accepted:
        if image.parts:
            raise Rejected(
                f"{image.name}: an image that is made of several files cannot be learnt from as it is; make a new "
                "version of it with a preprocess job (its step `tile`), and train on that"
            )
    masks = [(image.types or image.mask if kind == "classes" else image.mask) for image in accepted]
    return [
        LearningImage(
            image.name,
            by_name[image.file or ""].object,
            by_name[mask].object if mask else None,
            image.split,
            image.group,
        )
        for image, mask in zip(accepted, masks, strict=True)
    ]


def follow_dataset(order: TrainIn, images: Sequence[LearningImage]) -> TrainIn:
    """The order with what the dataset says about splitting in it: its own splits, if they are asked for, and groups.

    A split by ratio never parts a group: the tiles of a slide, or the variants of a tile, would know each other.
    """
    if not isinstance(order.split, DatasetSplit | RatioSplit):
        return order
    held = [image.name for image in images if image.split == "validation"]
    if isinstance(order.split, RatioSplit) or not held:
        held = _hold_groups(images, order.split.fraction, seed=order.seed)
    chosen = ListSplit(by="list", validation=held) if held else RatioSplit(fraction=order.split.fraction)
    return order.model_copy(update={"split": chosen})


def _hold_groups(images: Sequence[LearningImage], fraction: float, *, seed: int) -> list[str]:
    """Images of whole groups that validate; none where no image shares its group with another."""
    groups = {image.name: image.group for image in images}
    times = Counter(group for group in groups.values() if group is not None)
    if len(times) < 2 or max(times.values()) < 2:
        return []
    sides = split([*groups], groups, SplitStep(step="split", by="ratio", validation=fraction, test=0, seed=seed))
    return [name for name, side in sides.items() if side == "validation"]


def match_names(files: Sequence[DatasetFile]) -> list[LearningImage]:
    """Every image with its mask: `images/x.*` with `masks/x.*`. Raises Rejected if two masks claim one image."""
    masks: dict[str, DatasetFile] = {}
    for file in files:
        if file.role is FileRole.MASK and (twin := masks.setdefault(_stem(file.name), file)) is not file:
            raise Rejected(f"{twin.name} and {file.name} are both masks of one image: keep one of them")
    images = [file for file in files if file.role is FileRole.IMAGE]
    found = [(file, masks.get(_stem(file.name))) for file in images]
    return [LearningImage(file.name, file.object, mask.object if mask else None) for file, mask in found]


def _stem(name: str) -> str:
    """What an image and its mask have in common: the path without suffix and without folders `images` and `masks`."""
    path = PurePosixPath(name)
    folders = ["" if part in ("images", "masks") else part for part in path.parts[:-1]]
    return "/".join([*folders, path.stem])
