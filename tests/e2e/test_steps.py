"""A model that was trained on preprocessed images segments others through the same steps, in their own pixels."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from overtile import Client

from deploy.local.platform import Platform
from services.trainer.export import Export
from services.trainer.networks import UNet
from shared.imaging.masks import close_mask
from shared.imaging.steps.kinds import make_image_steps
from shared.imaging.steps.views import View, plan_steps
from shared.schemas.steps import as_json, read_steps
from tests.e2e.conftest import bring
from tests.e2e.test_objects import assert_same_objects, label_again
from tests.e2e.test_segmenting import answer_whole, ask_for, read_map, segment

STEPS: list[dict[str, Any]] = [{"step": "clahe"}, {"step": "median"}, {"step": "resize", "scale": 0.5}]


CASES = [(301, 250, 0), (301, 250, 3), (4600, 2200, 0), (4600, 2200, 3)]


@pytest.fixture
def bring_model(platform: Platform, small_export: Export) -> Callable[[int], str]:
    """Import the small model with steps and with a closing of so many px; returns its name."""

    def add(closing: int) -> str:
        bring(platform, f"stepping-{closing}", ask_for(small_export.files, steps=STEPS, closing=closing))
        return f"stepping-{closing}"

    return add


@pytest.mark.parametrize("case", CASES, ids=lambda case: "{}x{} closed by {}".format(*case))
def test_an_image_is_segmented_in_the_size_of_the_training_and_its_mask_given_in_its_own(
    client: Client,
    bring_model: Callable[[int], str],
    small_network: UNet,
    picture: Callable[[int, int], Path],
    tmp_path: Path,
    case: tuple[int, int, int],
) -> None:
    height, width, closing = case
    path = picture(height, width)
    job = segment(client, [path], bring_model(closing), name="stepping")
    assert job.state == "succeeded"
    client.jobs.download(job, to=tmp_path, kinds=["probability", "labels", "mask", "manifest"], progress=False)
    folder = tmp_path / f"{path.name}.probability.zarr"
    got = read_map(folder)[0]
    image = plan_steps(View.of(tifffile.imread(path)), make_image_steps(as_json(read_steps(STEPS))))[0].whole()
    assert got.shape == image.shape[:2]
    if height < 1000:  # more takes torch long
        whole = answer_whole(small_network, image, small_network.halo, small_network.grid)
        assert np.abs(got - 255 * whole).max() <= 1
    found = close_mask((got >= 127.5).astype(np.uint8), closing)
    rows, columns = (((2 * np.arange(n) + 1) * m) // (2 * n) for n, m in zip((height, width), got.shape, strict=True))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / f"{path.name}.mask.tif"), found[np.ix_(rows, columns)])
    stretch = max(height / got.shape[0], width / got.shape[1])
    objects = np.asarray(zarr.open_array(folder / "labels" / "objects" / "0", mode="r")[:])
    assert_same_objects(objects, label_again(job, got[np.ix_(rows, columns)][None], stretch=stretch))
    facts = json.loads((tmp_path / "manifest.json").read_text())["images"][0]["facts"]
    assert facts["own"] == [height, width]
    assert "step_facts" not in facts
