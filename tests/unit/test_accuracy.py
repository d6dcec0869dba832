"""The benchmark of accuracy: trained and scored in this process, on nuclei that we draw."""

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.accuracy import Row, describe, find_model, guess_kind, main
from benchmarks.registered_model import RegisteredModel
from benchmarks.training import make_order, thin_out
from shared.errors import Rejected
from shared.imaging.drawing import draw_nuclei
from shared.imaging.metrics.pixels import Confusion

IMAGES = 6
SIDE = 64  # px
PIXEL_SCORES = {"accuracy", "precision", "recall", "f1", "jaccard", "weighted_iou"}
OBJECT_SCORES = {"ap50", "ap50_95", "pq", "aji"}
TINY = [  # a second, and then it finds nuclei where most of them are
    "network.widths=[4,8]",
    "epochs=1",
    "crop=32",
    "crops_per_image=40",
    "batch_size=4",
    "learning_rate=0.02",
    'precision="fp32"',
    'masks.kind="instances"',
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Images and their masks, which number the nuclei."""
    images, masks = (tmp_path_factory.mktemp(name) for name in ("images", "masks"))
    for number in range(IMAGES):
        image, labels = draw_nuclei(SIDE, SIDE, seed=number, stain="fluorescence")
        Image.fromarray(image).save(images / f"{number}.png")
        Image.fromarray(labels).save(masks / f"{number}.png")
    return images, masks


pytestmark = pytest.mark.usefixtures("one_thread")


def run(*arguments: str | Path) -> dict[str, Any]:
    """What is printed last, read back."""
    said = io.StringIO()
    with redirect_stdout(said):
        main([str(argument) for argument in arguments])
    report = json.loads(said.getvalue().splitlines()[-1])
    assert isinstance(report, dict)
    return report


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("saved")


@pytest.fixture(scope="module")
def trained(folders: tuple[Path, Path], saved: Path, one_thread: None) -> dict[str, Any]:
    """The report of a training of one epoch on five images, scored on all six."""
    images, masks = folders
    changes = [text for change in TINY for text in ("--set", change)]
    learnt: list[str | Path] = ["--train-images", images, "--train-masks", masks, "--labels", "0.83"]
    where: list[str | Path] = ["--images", images, "--masks", masks, "--kind", "instances"]
    kept: list[str | Path] = ["--save", saved, "--table", saved / "rows.csv"]
    return run("--recipe", "nuclei-starter", *changes, *learnt, *where, *kept)


def test_a_recipe_is_trained_and_scored(trained: dict[str, Any]) -> None:
    means, pooled = PIXEL_SCORES | OBJECT_SCORES, {f"pooled_{name}" for name in PIXEL_SCORES}
    assert means | pooled <= trained.keys()
    assert all(0 <= trained[name] <= 1 for name in means | pooled)
    assert trained["accuracy"] > 0.8
    assert 0.3 < trained["jaccard"] < 1
    assert set(trained["intervals"]) == means
    assert all(low <= trained[name] <= high for name, (low, high) in trained["intervals"].items())
    assert (trained["recipe"], trained["model"], trained["masks"]) == ("nuclei-starter", "nuclei-starter", "instances")
    assert (trained["images"], trained["training_images"], trained["epochs"], trained["best_epoch"]) == (6, 4, 1, 1)
    assert trained["network"]["widths"] == [4, 8]
    assert 0 < trained["threshold"] < 1
    assert trained["machine"]["cores"] >= 1


def test_the_model_and_its_reports_are_kept(trained: dict[str, Any], saved: Path) -> None:
    kept = {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()}
    assert {"model.onnx", "contract.json", "card.json", "checkpoint.safetensors"} <= kept
    assert {"reports/log.csv", "reports/scores.csv", "reports/curves.png", "rows.csv"} <= kept
    assert len((saved / "rows.csv").read_text().splitlines()) == 1 + IMAGES


def test_the_saved_model_has_the_scores_that_it_had(
    trained: dict[str, Any], saved: Path, folders: tuple[Path, Path]
) -> None:
    images, masks = folders
    again = run("--model", saved, "--images", images, "--masks", masks, "--kind", "instances")
    same = {*PIXEL_SCORES, *OBJECT_SCORES, "intervals", "images", "masks", "threshold", "closing", "network", "trained"}
    assert {name: again[name] for name in same} == {name: trained[name] for name in same}
    assert {name: again[name] for name in again if name.startswith("pooled_")} == {
        name: trained[name] for name in trained if name.startswith("pooled_")
    }
    assert (again["recipe"], again["model"]) == (None, str(saved))
    assert "training_seconds" not in again


def test_pooled_scores_weigh_pixels_and_means_weigh_images() -> None:
    small, large = Confusion(1, 0, 0, 0), Confusion(0, 0, 3, 0)
    rows: list[Row] = [{"name": "small", **small.scores()}, {"name": "large", **large.scores()}]
    told = describe(rows, small + large)
    assert (told["images"], told["jaccard"], told["pooled_jaccard"]) == (2, 0.5, 0.25)
    assert told["intervals"]["jaccard"] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 255], "binary"),
        ([255], "binary"),
        ([0], "binary"),
        ([0, 1, 2], "classes"),
        ([0, 8], "classes"),
        ([0, 9], "instances"),
        ([0, 1, 255], "instances"),
        ([0, 255, 256], "instances"),
        ([0, 40_000], "instances"),
    ],
)
def test_what_masks_mean_is_told_from_their_values(tmp_path: Path, values: list[int], kind: str) -> None:
    """A second mask of background alone changes nothing."""
    pairs = []
    for number, row in enumerate((values, [0])):
        mask = tmp_path / f"{number}.png"
        Image.fromarray(np.array([row], np.uint16)).save(mask)
        pairs.append((mask.name, mask, mask))
    assert guess_kind(pairs) == kind


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--images", "a", "--masks", "b"], "name a --recipe to train by, or a --model to take"),
        (["--recipe", "unet", "--images", "a", "--masks", "b"], "invalid choice: 'unet'"),
        (["--model", "nuclei-starter", "--masks", "b"], "required: --images"),
        (["--model", "nuclei-starter", "--images", "a"], "required: --masks"),
        (["--model", "m", "--images", "a", "--masks", "b", "--kind", "cells"], "invalid choice: 'cells'"),
    ],
)
def test_what_is_missing_or_unknown_is_an_error_of_usage(
    arguments: Sequence[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert told in said.err
    assert said.out == ""


def test_images_without_masks_are_named_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "masks").mkdir()
    with pytest.raises(Rejected, match=r"a\.png: the image has no mask"):
        main(["--recipe", "nuclei-starter", "--images", str(tmp_path), "--masks", str(tmp_path / "masks")])


def test_a_name_that_is_no_folder_is_a_registered_model(tmp_path: Path) -> None:
    assert isinstance(find_model("nuclei@production"), RegisteredModel)
    assert isinstance(find_model(str(tmp_path)), RegisteredModel)  # a folder without a model


def test_a_recipe_is_changed_field_by_field() -> None:
    order = make_order("unet-dsb2018", small=True, changes=["epochs=3", "network.widths=[4,8]", "loss.dice=0.5"])
    assert (order.recipe, order.small, order.epochs, order.learning_rate) == ("unet-dsb2018", True, 3, 1e-3)
    assert (order.network.widths, order.network.channels, order.loss.dice) == ([4, 8], 3, 0.5)


@pytest.mark.parametrize(("share", "count"), [(1.0, 20), (0.5, 10), (0.26, 5), (0.01, 4)])
def test_a_share_of_the_images_is_drawn_by_the_seed_alone(share: float, count: int) -> None:
    pairs = [(f"{number:02}.png", Path(f"{number}"), Path(f"{number}")) for number in range(20)]
    first, again, other = (thin_out(pairs, share=share, seed=seed) for seed in (0, 0, 1))
    assert list(first) == list(again) == sorted(first)
    assert len(first) == len(other) == count
    assert (first != other) == (share < 1)


def test_of_few_images_all_are_kept() -> None:
    pairs = [(f"{number}.png", Path(f"{number}"), Path(f"{number}")) for number in range(3)]
    assert thin_out(pairs, share=0.1, seed=0) == pairs
