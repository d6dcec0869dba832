"""The report of an evaluation as one HTML page: it opens without a network, and holds its pictures itself."""

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from services.worker.reports.evaluation import Contender, EvaluationReport, Shown
from services.worker.reports.evaluation_charts import draw_f1, draw_reliability, draw_thresholds
from services.worker.writers.panels import compress_panel
from shared.errors import NotFound, Unavailable
from shared.imaging.metrics.comparison import Difference
from shared.imaging.metrics.summary import Mean

LISTED = 200  # images that the page lists; the tables beside it have all

# Names of scores in tables: what they are called, and what is best.
SCORES: dict[str, tuple[str, str]] = {
    "aji": ("AJI", "higher"),
    "ap50": ("AP at IoU 0.5", "higher"),
    "ap50_95": ("AP at IoU 0.5 … 0.95", "higher"),
    "pq": ("panoptic quality", "higher"),
    "touching_ap50": ("AP at IoU 0.5, touching objects", "higher"),
    "touching_count_error": ("count error an object, touching objects", "lower"),
    "count_error": ("objects found − true, an image", "0"),
    "merges": ("objects lost in others, an image", "lower"),
    "splits": ("parts too many, an image", "lower"),
    "jaccard": ("IoU of the foreground", "higher"),
    "f1": ("F1 of the foreground", "higher"),
    "precision": ("precision", "higher"),
    "recall": ("recall", "higher"),
    "accuracy": ("accuracy", "higher"),
    "weighted_iou": ("frequency-weighted IoU", "higher"),
    "calibration_error": ("calibration error", "lower"),
    "brier": ("Brier score", "lower"),
}
LISTED_SCORES = ("aji", "ap50", "pq", "touching_ap50", "count_error", "jaccard", "f1")  # of the table of images
CLASS = "jaccard_class_"  # what the IoU of a class is called in tables

Fetch = Callable[[str], bytes]

_PAGES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)


@dataclass(frozen=True)
class Line:
    """A score in the table of scores."""

    title: str
    best: str
    means: Sequence[Mean | None]  # of each contender
    difference: Difference | None  # between two models
    gain: Difference | None  # over the baseline


def draw_evaluation(report: EvaluationReport, used: Sequence[float | None], fetch: Fetch) -> bytes:
    """The page, UTF-8. `used`: each model's threshold, None of one that has several classes.

    `fetch` gives the bytes of a stored picture; a page without one is better than none.

    Names are users' text: they are shown, never obeyed.
    """
    contenders = [*report.models, *([report.baseline] if report.baseline else [])]
    columns = [name for name in LISTED_SCORES if any(name in each.means for each in contenders)]
    page = _PAGES.get_template("evaluation.html").render(
        report=report,
        contenders=contenders,
        primary=title_of(report.primary, report.class_names)[0],
        lines=list(list_lines(report, contenders)),
        verdicts=list(say_verdicts(report)),
        charts=list(_draw_charts(report, used)),
        matrices=[(each.title, *_shade(each, report.class_names)) for each in report.models if each.matrix is not None],
        panels=[(title, text, _embed(shown, fetch)) for title, text, shown in _list_shown(report)],
        columns=[(name, title_of(name, report.class_names)[0]) for name in columns],
        rows=list(_list_images(report, columns)),
        number=say_number,
        listed=LISTED,
        is_marked=any(threshold is not None for threshold in used),
    )
    return page.encode("utf-8", "backslashreplace")


def title_of(name: str, classes: Sequence[str]) -> tuple[str, str]:
    """What a score is called, and what is best: higher, lower or 0."""
    if name.startswith(CLASS):
        number = int(name.removeprefix(CLASS))
        return f"IoU of {classes[number] if number < len(classes) else f'class {number}'}", "higher"
    return SCORES.get(name, (name, ""))


def say_number(value: float | None) -> str:
    """Three decimals; a dash for what is not there."""
    return "–" if value is None or np.isnan(value) else f"{value:.3f}".replace("-", "−")


def list_lines(report: EvaluationReport, contenders: Sequence[Contender]) -> Iterator[Line]:
    """The scores that the first model has, objects first, then the foreground, classes and probabilities."""
    found = report.models[0].means
    order = [name for name in SCORES if name in found] + [name for name in found if name.startswith(CLASS)]
    for name in order:
        title, best = title_of(name, report.class_names)
        means = [each.means.get(name) for each in contenders]
        yield Line(title, best, means, report.differences.get(name), report.gains.get(name))


def say_verdicts(report: EvaluationReport) -> Iterator[tuple[str, str]]:
    """Sentences about the score that images are ranked by, each with how sure it is: decided or undecided."""
    first, primary = report.models[0].title, title_of(report.primary, ())[0]
    others = [(report.models[1].title, report.differences)] if len(report.models) > 1 else []
    if report.baseline:
        others.append(("the classical baseline", report.gains))
    for other, found in others:
        if (one := found.get(report.primary)) is None:
            continue
        interval = say_number(one.mean)
        if one.images > 1:
            interval += f" ({say_number(one.low)} … {say_number(one.high)})"
        counts = f"higher on {one.higher}, lower on {one.lower}, equal on {one.ties} of {one.images} images"
        if one.verdict == "undecided":
            text = f"{first} and {other} cannot be told apart by {primary} on these images: {interval}; {counts}."
            yield "undecided", text
        else:
            word = "better" if one.verdict == "higher" else "worse"
            yield one.verdict, f"{first} is {word} than {other} by {primary}: {interval}; {counts}."


def _draw_charts(report: EvaluationReport, used: Sequence[float | None]) -> Iterator[tuple[str, Markup]]:
    pairs = list(zip(report.models, used, strict=True))
    sweeps = [(each.title, each.sweep, threshold) for each, threshold in pairs if each.sweep is not None]
    calibrations = [(each.title, each.calibration) for each in report.models if each.calibration is not None]
    if sweeps:
        yield "IoU of the foreground over thresholds", draw_thresholds(sweeps)
        yield "F1 of the foreground over thresholds", draw_f1(sweeps)
    if calibrations:
        yield "Calibration", draw_reliability(calibrations)


def _shade(model: Contender, classes: Sequence[str]) -> tuple[list[str], list[list[tuple[int, float]]]]:
    """Names of the classes, and for each true class the pixels and the share found as each class.

    What the model has no class for is "other".
    """
    if model.matrix is None:
        raise ValueError(f"{model.title} has no matrix of classes")
    totals = np.maximum(model.matrix.sum(axis=1), 1)
    names = [classes[k] if k < len(classes) else "other" for k in range(len(model.matrix))]
    return names, [
        [(int(cell), float(cell / total)) for cell in row] for row, total in zip(model.matrix, totals, strict=True)
    ]


def _list_shown(report: EvaluationReport) -> Iterator[tuple[str, str, Sequence[Shown]]]:
    if report.worst:
        yield "The worst images" if report.best else "The image", "The worst first.", report.worst
    if report.best:
        yield "The best images", "The best first.", report.best
    if report.differing:
        yield "Where the models differ most", "The largest difference first.", report.differing


def _embed(shown: Sequence[Shown], fetch: Fetch) -> list[tuple[Shown, list[tuple[str, str]]]]:
    """Each image with its pictures as data URIs, with the title of the model. As JPEG: a page is to be sent by mail."""

    def encode(panels: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        for title, key in panels:
            with suppress(NotFound, Unavailable):
                yield title, f"data:image/jpeg;base64,{b64encode(compress_panel(fetch(key))).decode()}"

    return [(one, list(encode(one.panels))) for one in shown]


def _list_images(report: EvaluationReport, columns: Sequence[str]) -> Iterator[tuple[str, str, list[list[str]]]]:
    """Name, split and scores of the images, the worst first; of each score those of all models."""
    first = report.models[0].rows
    splits = {image.name: image.split or "" for image in report.images}
    for name in sorted(first, key=lambda name: _sortable(first[name], report.primary))[:LISTED]:
        cells = [[_say_cell(model.rows.get(name, {}), column) for model in report.models] for column in columns]
        yield name, splits[name], cells


def _say_cell(row: Mapping[str, str | float | None], column: str) -> str:
    value = row.get(column)
    if value is None or isinstance(value, str) or np.isnan(value):
        return "–"
    return f"{value:+.0f}".replace("-", "−") if column == "count_error" else say_number(value)


def _sortable(row: Mapping[str, str | float | None], primary: str) -> float:
    value = row.get(primary)
    return np.inf if value is None or isinstance(value, str) or np.isnan(value) else float(value)
