"""A slide that is mostly glass: predicted where there is tissue, whole all the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from overtile import Client

from tests.e2e.test_segmenting import read_map, segment

HEIGHT, WIDTH = 4200, 4600
TISSUE = slice(1500, 1900), slice(2500, 3000)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Glass with a patch of stained tissue, where two blocks meet."""
    draw = np.random.default_rng(0)
    pixels = np.full((HEIGHT, WIDTH, 3), 243, dtype=np.uint8)
    pixels += draw.integers(0, 4, pixels.shape, dtype=np.uint8)
    pixels[TISSUE] = draw.integers(60, 200, (400, 500, 3))
    path = tmp_path_factory.mktemp("glass") / "glass.tif"
    tifffile.imwrite(path, pixels, tile=(512, 512), compression="jpeg", photometric="rgb")
    return path


def test_tissue_gets_the_answer_it_would_get_if_nothing_was_skipped(
    client: Client, model: str, slide: Path, tmp_path: Path
) -> None:
    answers = {}
    for wish in ("auto", "predict"):
        job = segment(client, [slide], model, name="glass", empty_tiles=wish)
        client.jobs.download(job, to=tmp_path / wish, progress=False)
        summary = client.jobs.get(job).summary
        assert summary is not None
        probability = read_map(tmp_path / wish / "glass.tif.probability.zarr")[0]
        mask = tifffile.imread(tmp_path / wish / "glass.tif.mask.tif")
        np.testing.assert_array_equal(mask, probability >= 127.5)
        answers[wish] = summary.tiles, summary.skipped_tiles, probability
    tiles, skipped, sparse = answers["auto"]
    every, none, whole = answers["predict"]
    assert (every, none) == (tiles, 0)
    assert tiles // 2 < skipped < tiles
    np.testing.assert_array_equal(sparse[TISSUE], whole[TISSUE])
    assert not sparse[:, :512].any()
    manifest = json.loads((tmp_path / "auto" / "manifest.json").read_text())
    assert manifest["summary"]["skipped_tiles"] == manifest["images"][0]["result"]["skipped_tiles"] == skipped
