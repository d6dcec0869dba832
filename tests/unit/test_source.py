"""What the worker cuts tiles from is what the trainer learnt from."""

from pathlib import Path
from typing import Any, cast
from uuid import UUID

import numpy as np
import pytest
import tifffile

from services.trainer.data import load_samples
from services.worker.predictor import Predictor, ServedModel
from services.worker.stages.facts import ImageFacts
from services.worker.stages.source import find_source, look_over
from shared.imaging.drawing import draw_nuclei
from shared.imaging.tiling import Box, Pixels
from shared.schemas.contracts import TilingContract
from shared.schemas.training import TrainIn
from shared.slides import open_slide
from tests.rows import CONTRACT

HEIGHT, WIDTH = 300, 1100  # wider than a sample, so that not all of it is looked at
ASKED: list[dict[str, Any]] = [
    {"equalise": True},
    {"stretch": [1, 99], "invert": True},
    {"stain": {}},
    {"stain": {}, "stretch": [0.5, 99.5], "invert": True},
]
asked_for = pytest.mark.parametrize("asked", ASKED, ids="+".join)
UNUSED = cast("Predictor", None)  # only models that warp are asked while an image is looked over


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiled TIFF of stained tissue, with an empty mask beside it."""
    folder = tmp_path_factory.mktemp("tissue")
    pixels, _ = draw_nuclei(HEIGHT, WIDTH, seed=4, stain="histology")
    tifffile.imwrite(folder / "image.tif", pixels, tile=(64, 64), photometric="rgb")
    tifffile.imwrite(folder / "mask.tif", np.zeros((HEIGHT, WIDTH), np.uint8))
    return folder / "image.tif"


def learn_from(path: Path, preparation: dict[str, Any]) -> Pixels:
    """The image as the network saw it in training."""
    fields = {"kind": "train", "dataset_version": UUID(int=0), "model": "nuclei", "preparation": preparation}
    (sample,) = load_samples([("cells.tif", path, path.with_name("mask.tif"))], TrainIn.model_validate(fields))
    return sample.image


def plan(path: Path, contract: TilingContract) -> ImageFacts:
    """What planning finds, after a way through the database."""
    model = ServedModel(UUID(int=0), UUID(int=1), {}, contract)
    with open_slide(path) as slide:
        facts = ImageFacts(
            format=slide.format, height=HEIGHT, width=WIDTH, mpp=None, window=None, core=256, block_side=512
        )
        facts = look_over(slide, facts, model, predictor=UNUSED, check=lambda: None)
    return ImageFacts.model_validate_json(facts.model_dump_json())


@asked_for
def test_every_box_holds_what_training_saw_there(tissue: Path, asked: dict[str, Any]) -> None:
    contract = TilingContract.model_validate({**CONTRACT.model_dump(), **asked})
    learnt, facts = learn_from(tissue, asked), plan(tissue, contract)
    with open_slide(tissue) as slide:
        read = find_source(slide, facts, contract, check=lambda: None)
        for box in (Box(0, 0, HEIGHT, WIDTH), Box(37, 501, 290, 1100), Box(299, 0, 300, 1)):
            np.testing.assert_array_equal(read(box), learnt[box.slices()])


@asked_for
def test_what_is_asked_changes_the_image(tissue: Path, asked: dict[str, Any]) -> None:
    assert (learn_from(tissue, asked) != learn_from(tissue, {})).mean() > 0.5


def test_facts_keep_the_image_s_own_stains(tissue: Path) -> None:
    contract = TilingContract.model_validate({**CONTRACT.model_dump(), "stain": {}})
    facts = plan(tissue, contract)
    assert facts.stains is not None
    assert facts.levels is None
    assert 0 < facts.stains.colours[1][0] < facts.stains.colours[0][0] < 1


def test_facts_that_an_older_worker_stored_still_hold(tissue: Path) -> None:
    contract = TilingContract.model_validate({**CONTRACT.model_dump(), "equalise": True})
    facts = plan(tissue, contract)
    stored = facts.model_dump(mode="json", exclude={"stains", "levels"}) | {"equalisation": facts.levels}
    assert ImageFacts.model_validate(stored) == facts


def test_a_contract_that_asks_for_nothing_reads_nothing(tissue: Path) -> None:
    def stop() -> None:
        pytest.fail("the image was read")

    model = ServedModel(UUID(int=0), UUID(int=1), {}, CONTRACT)
    facts = plan(tissue, CONTRACT)
    with open_slide(tissue) as slide:
        assert look_over(slide, facts, model, predictor=UNUSED, check=stop) == facts
