"""What the demo learns from."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploy.local import demo, demo_images
from services.trainer.learning_images import match_names
from services.trainer.networks import build_network
from services.trainer.starting import refuse_unworkable
from shared.schemas.training import TrainIn
from shared.tables import DatasetFile, StoredObject
from shared.tables.datasets import FileRole

COUNT, SIDE = 4, 96


def read(path: Path) -> NDArray[np.integer[Any]]:
    with Image.open(path) as image:
        return np.asarray(image)


def test_every_image_has_a_mask_that_numbers_its_nuclei(tmp_path: Path) -> None:
    drawn = demo_images.draw(tmp_path, count=COUNT, side=SIDE)
    roles = {"images": FileRole.IMAGE, "masks": FileRole.MASK}
    files = [DatasetFile(name=name, object=StoredObject(key=name), role=roles[name.split("/")[0]]) for name in drawn]
    found = match_names(files)
    assert len(found) == COUNT
    for learnt in found:
        assert learnt.mask is not None
        image, labels = read(drawn[learnt.name]), read(drawn[learnt.mask.key])
        assert (image.shape, labels.shape) == ((SIDE, SIDE, 3), (SIDE, SIDE))
        assert len(np.unique(labels)) > 3
        assert 0.02 < (labels > 0).mean() < 0.9


def test_nuclei_are_bright_on_dark_in_every_other_image_and_dark_on_bright_in_the_rest(tmp_path: Path) -> None:
    drawn = demo_images.draw(tmp_path, count=COUNT, side=SIDE)
    brighter = []
    for number in range(COUNT):
        image = read(drawn[f"images/drawn-{number:03}.png"]).mean(axis=2)
        nuclei = read(drawn[f"masks/drawn-{number:03}.png"]) > 0
        brighter.append(image[nuclei].mean() > image[~nuclei].mean())
    assert brighter == [True, False, True, False]


def test_the_same_images_are_drawn_each_time_so_that_a_second_run_finds_what_was_trained(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    first, again = (demo_images.draw(folder, count=2, side=SIDE) for folder in folders)
    assert {name: path.read_bytes() for name, path in first.items()} == {
        name: path.read_bytes() for name, path in again.items()
    }


def test_the_lesson_of_the_demo_is_an_order_that_can_work_on_what_is_drawn() -> None:
    order = TrainIn.model_validate({"kind": "train", "recipe": demo.MODEL, "dataset": "drawn", **demo.SETTINGS})
    refuse_unworkable(order, build_network(order.network))
    assert order.crop == demo.SIDE
    assert order.split.model_dump()["fraction"] * demo.IMAGES > 1
    assert order.masks.kind == "instances"
