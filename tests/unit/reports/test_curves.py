"""The history as a picture."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from services.trainer.history import Epoch
from services.trainer.reports.curves import draw_curves
from tests.unit.reports.histories import make_epoch, make_history

TRAIN, VALIDATION = (213, 94, 0), (0, 114, 178)


def look(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(png), formats=("PNG",)).convert("RGB"))


def in_colour(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (picture == np.array(colour, np.uint8)).all(axis=2)
    return found


def constant(value: float) -> list[Epoch]:
    return [Epoch(number, value, value, value, value, value, value, 1e-4, 1.0) for number in (1, 2, 3)]


@pytest.mark.parametrize("history", [make_history(1), make_history(200), constant(0.0), constant(1.0)])
def test_each_third_of_the_picture_shows_both_curves(history):
    picture = look(draw_curves(history, history[-1]))
    assert picture.shape[1] == 1200
    for third in np.split(picture, 3, axis=1):
        assert in_colour(third, TRAIN).any()
        assert in_colour(third, VALIDATION).any()


def test_the_mark_stands_at_the_best_epoch():
    def measure_left(best: int) -> float:
        history = [make_epoch(number, 0.5) for number in range(1, 11)]
        curve = in_colour(look(draw_curves(history, history[best - 1]))[:, 400:710], VALIDATION)
        heights = curve.sum(axis=0)  # the mark is higher than the curve
        return float(heights.argmax())

    assert measure_left(2) < measure_left(9)


def test_one_leap_of_the_loss_does_not_flatten_the_rest():
    def measure_fall(history: list[Epoch]) -> int:
        """Between the first and the last height of the training loss, px."""
        rows, columns = np.nonzero(in_colour(look(draw_curves(history, history[-1]))[:, :320], TRAIN))
        return int(rows[columns.argmax()] - rows[columns.argmin()])

    calm = make_history(10)
    leaping = [make_epoch(2, 0.3, loss=500.0) if epoch.epoch == 2 else epoch for epoch in calm]
    assert measure_fall(calm) > 60
    assert measure_fall(leaping) > 20


def test_threads_draw_the_same_as_one_alone():
    histories = [make_history(epochs) for epochs in (3, 4)]
    alone = [draw_curves(history, history[0]) for history in histories]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda history: draw_curves(history, history[0]), histories)) == alone


def test_drawing_leaves_the_global_figures_of_pyplot_alone():
    program = (
        "import sys\n"
        "from services.trainer.reports.curves import draw_curves\n"
        "from tests.unit.reports.histories import make_history\n"
        "history = make_history(2)\n"
        "draw_curves(history, history[0])\n"
        "sys.exit('matplotlib.pyplot' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_no_epochs_no_curves():
    with pytest.raises(ValueError, match="without epochs"):
        draw_curves([], make_epoch())
