"""The benchmark of touching nuclei: scored in this process, on discs and on nuclei that we draw."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.stored_model import StoredModel
from benchmarks.touching import HELD, STARTER, main, read_images
from benchmarks.touching_objects import Tally, Way, label_by_peer, list_ways, tally
from shared.imaging.drawing import draw_nuclei
from shared.imaging.objects.rules import ObjectRules

RULES = ObjectRules(0.5, depth=1.0, min_area=1)
SIDE = 64  # px
SCORES = {"ap50", "ap50_95", "ap50_touching", "ap50_95_touching", "count_error_touching", "merges", "splits"}

pytestmark = pytest.mark.usefixtures("one_thread")


def draw_discs() -> tuple[np.ndarray, np.ndarray]:
    """Two discs that touch: probabilities (1, H, W), and the true objects."""
    y, x = np.mgrid[:40, :60]
    truth = np.select([(x - middle) ** 2 + (y - 20) ** 2 < 144 for middle in (18, 41)], [1, 2], 0)
    return np.where(truth > 0, 255, 0).astype(np.uint8)[None], truth


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn nuclei to learn from and to score, with masks that number them."""
    folder = tmp_path_factory.mktemp("data")
    for part, count in (("train", 2 * HELD), ("val", 2)):
        for kind in ("images", "masks"):
            (folder / part / kind).mkdir(parents=True)
        for number in range(count):
            image, labels = draw_nuclei(SIDE, SIDE, seed=number, stain="fluorescence")
            Image.fromarray(image).save(folder / part / "images" / f"{number:02}.png")
            Image.fromarray(labels).save(folder / part / "masks" / f"{number:02}.png")
    return folder


def run(*arguments: str | Path) -> dict[str, Any]:
    """What is printed last, read back."""
    said = io.StringIO()
    with redirect_stdout(said):
        main([str(argument) for argument in arguments])
    report = json.loads(said.getvalue().splitlines()[-1])
    assert isinstance(report, dict)
    return report


@pytest.mark.parametrize("way", list_ways(RULES)[1:], ids=lambda way: way.name)
def test_a_watershed_parts_discs_that_touch(way: Way) -> None:
    scores = tally(way, [draw_discs()]).describe()
    assert (scores["ap50_touching"], scores["count_error_touching"]) == (1.0, 0.0)


def test_components_count_discs_that_touch_as_one() -> None:
    scores = tally(list_ways(RULES)[0], [draw_discs()]).describe()
    assert (scores["ap50_touching"], scores["count_error_touching"], scores["merges"]) == (0.0, 0.5, 1)


def test_the_peer_leaves_out_what_is_too_small() -> None:
    planes = np.zeros((1, 20, 20), dtype=np.uint8)
    planes[0, 2:8, 2:8] = planes[0, 15, 15] = 255
    labels = label_by_peer(planes, ObjectRules(0.5, min_area=2))
    assert labels[15, 15] == 0
    assert labels[4, 4] > 0


def test_images_without_touching_objects_are_left_out_of_their_mean() -> None:
    planes, truth = draw_discs()
    lone = np.where(truth == 1, truth, 0)
    scores = tally(list_ways(RULES)[1], [(planes, truth), (planes * (lone > 0), lone)])
    assert [row["mean_ap50_touching"] for row in scores.rows] == [1.0, None]


def test_differences_are_of_the_same_images() -> None:
    components, watershed = (tally(way, [draw_discs()]) for way in list_ways(RULES)[:2])
    assert watershed.compare(components)["ap50"] == [1.0, 1.0, 1.0]


def test_tallies_of_different_images_are_not_compared() -> None:
    one, two = Tally(), tally(list_ways(RULES)[0], [draw_discs()])
    with pytest.raises(ValueError, match=r"argument \d is"):
        one.compare(two)


def test_held_out_images_are_every_seventh(data: Path) -> None:
    truths = [truth for _, truth in read_images(StoredModel(STARTER), data, held=True)]
    expected = [np.asarray(Image.open(data / "train" / "masks" / f"{number:02}.png")) for number in (0, HELD)]
    assert len(truths) == 2
    assert all(np.array_equal(one, other) for one, other in zip(truths, expected, strict=True))


def test_every_way_of_both_networks_is_scored_and_compared(data: Path) -> None:
    report = run("--data", data, "--plain", STARTER, "--weighted", STARTER)
    ways = [way.name for way in list_ways(RULES)]
    assert list(report["methods"]) == [f"{kind}_{way}" for kind in ("plain", "weighted") for way in ways]
    assert all(scores.keys() >= SCORES for scores in report["methods"].values())
    assert report["methods"]["weighted_components"]["above_plain_components"]["ap50"] == [0.0, 0.0, 0.0]


def test_rules_given_on_the_command_line_hold_for_all_ways(data: Path) -> None:
    report = run("--data", data, "--plain", STARTER, "--weighted", STARTER, "--set", "min_area=4096")
    assert {scores["ap50"] for scores in report["methods"].values()} == {0.0}


@pytest.mark.long
def test_both_networks_are_trained_when_no_folders_are_given(data: Path) -> None:
    changes = ["epochs=1", "crop=32", "crops_per_image=1", "batch_size=4", 'precision="fp32"']
    report = run("--data", data, *(part for change in changes for part in ("--train", change)))
    assert {report[kind]["images"] for kind in ("plain", "weighted")} == {2}
