"""What the report of an evaluation tells: how good one or two models are, beside a classical baseline."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shared.imaging.metrics.accumulating import Evidence
from shared.imaging.metrics.calibration import Calibration, calibrate
from shared.imaging.metrics.comparison import Difference, compare
from shared.imaging.metrics.pixels import Counts, Sweep, sweep_levels
from shared.imaging.metrics.summary import Mean, Row, summarise

BASELINE = "baseline"
OBJECTS, PIXELS = "aji", "jaccard"  # by which images are ranked: where objects are told, and where they are not
UNRANKED = ("count_error", "touching_objects")  # of which more is neither better nor worse
EXTREMES = 6  # images that are shown of the worst, of the best, and of those on which two models differ most
GROUPS = 40  # rows of the table by split or group


@dataclass(frozen=True)
class ScoredImage:
    """An image's scores by one model, and where its picture is stored."""

    name: str
    model: int  # 0, or 1 of the one it is compared with
    evidence: Evidence
    split: str | None = None
    group: str | None = None
    method: str | None = None  # of the baseline
    baseline: Mapping[str, float] | None = None
    panel: str | None = None


@dataclass(frozen=True, eq=False)
class Contender:
    """A model, or the baseline, and all its scores."""

    title: str
    rows: Mapping[str, Row]  # by image
    means: Mapping[str, Mean]
    sweep: Sweep | None = None
    calibration: Calibration | None = None
    matrix: Counts | None = None


@dataclass(frozen=True)
class Shown:
    """An image with its pictures, one for each model that is shown."""

    name: str
    score: str  # what is said about it
    panels: Sequence[tuple[str, str]]  # title of the model, and key of the picture


@dataclass(frozen=True, eq=False)
class EvaluationReport:
    """Everything about an evaluation. `about`: where it comes from, as pairs of a word and a text."""

    dataset: str
    created: str  # date and time, ISO 8601
    primary: str  # name of the score by which images are ranked
    models: Sequence[Contender]  # one, or two
    baseline: Contender | None
    methods: Mapping[str, int]  # how the baseline found foreground → images
    differences: Mapping[str, Difference]  # first model minus second
    gains: Mapping[str, Difference]  # first model minus baseline
    parts: Sequence[tuple[str, str, Mapping[str, Mean]]]  # "split" or "group", its name, the first model's means
    more_parts: int  # that are left out
    worst: Sequence[Shown]
    best: Sequence[Shown]
    differing: Sequence[Shown]  # on which two models differ most
    images: Sequence[ScoredImage]
    class_names: Sequence[str] = ()
    left_out: int = 0  # images without a mask
    left_out_names: Sequence[str] = ()  # some of them
    failed: Sequence[tuple[str, str]] = ()  # images that could not be scored, and why
    notes: Sequence[tuple[str, str]] = ()  # images whose quality is in doubt, and why
    about: Sequence[tuple[str, str]] = field(default_factory=tuple)

    def list_rows(self) -> list[Row]:
        """The table of all images, by model, in their order, the baseline last."""
        contenders = [*self.models, *([self.baseline] if self.baseline else [])]
        origins = {image.name: {"split": image.split, "group": image.group} for image in self.images}
        notes = defaultdict[str, list[str]](list)
        for name, note in self.notes:
            notes[name].append(note)
        return [
            {"name": name, "model": each.title, **origins[name], **row, "notes": "; ".join(notes.get(name, ())) or None}
            for each in contenders
            for name, row in each.rows.items()
        ]


def fill_evaluation(images: Sequence[ScoredImage], titles: Sequence[str], **rest: Any) -> EvaluationReport:
    """The report about images that were scored by models of these titles; `rest`: its fields that are told, not found.

    Raises:
        ValueError: no image was scored.
    """
    models = [_gather(title, [image for image in images if image.model == k]) for k, title in enumerate(titles)]
    first = [image for image in images if image.model == 0]
    if not first:
        raise ValueError("an evaluation without a scored image")
    baseline = _gather_baseline(first)
    primary = OBJECTS if OBJECTS in models[0].means else PIXELS
    names = [name for name in models[0].means if not name.startswith("objects_") and name not in UNRANKED]
    differences = compare(models[1].rows, models[0].rows, names=names) if len(models) > 1 else {}
    scores = {name: _score(models[0], name, primary) for name in models[0].rows}
    ranked = sorted((name for name in scores if not np.isnan(scores[name])), key=scores.__getitem__)
    parts = _list_parts(first)
    pictures = _Pictures(images, titles, primary)
    few = min(EXTREMES, -(-len(ranked) // 2))
    return EvaluationReport(
        primary=primary,
        models=models,
        baseline=baseline,
        methods=_count(image.method for image in first if image.method),
        differences=differences,
        gains=compare(baseline.rows, models[0].rows, names=names) if baseline else {},
        parts=[(*named, summarise([one.evidence.row for one in some])) for named, some in parts[:GROUPS]],
        more_parts=max(len(parts) - GROUPS, 0),
        worst=[pictures.show(name, models) for name in ranked[:few]],
        best=[pictures.show(name, models) for name in ranked[few:][::-1][:few]],
        differing=[pictures.show(name, models) for name in _rank_differing(models, primary)],
        images=images,
        **rest,
    )


@dataclass(frozen=True)
class _Pictures:
    images: Sequence[ScoredImage]
    titles: Sequence[str]
    primary: str

    def show(self, name: str, models: Sequence[Contender]) -> Shown:
        keys = {image.model: image.panel for image in self.images if image.name == name}
        told = [_say(_score(model, name, self.primary)) for model in models]
        scores = ", ".join(f"{model.title} {score}" for model, score in zip(models, told, strict=True))
        panels = [(self.titles[model], key) for model, key in sorted(keys.items()) if key]
        return Shown(name, scores if len(models) > 1 else told[0], panels)


def _gather(title: str, images: Sequence[ScoredImage]) -> Contender:
    rows = {image.name: image.evidence.row for image in images}
    levels = [image.evidence.levels for image in images if image.evidence.levels is not None]
    matrices = [image.evidence.matrix for image in images if image.evidence.matrix is not None]
    return Contender(
        title,
        rows,
        summarise(list(rows.values())),
        sweep_levels(levels) if levels else None,
        calibrate(np.sum(levels, axis=0)) if levels else None,
        _add_matrices(matrices) if matrices else None,
    )


def _gather_baseline(images: Sequence[ScoredImage]) -> Contender | None:
    rows = {image.name: image.baseline for image in images if image.baseline is not None}
    return Contender(BASELINE, rows, summarise(list(rows.values()))) if rows else None


def _add_matrices(matrices: Sequence[Counts]) -> Counts:
    """Their sum: an image whose mask holds a class that others lack has a larger one."""
    size = max(len(matrix) for matrix in matrices)
    total = np.zeros((size, size), np.int64)
    for matrix in matrices:
        total[: len(matrix), : len(matrix)] += matrix
    return total


def _list_parts(images: Sequence[ScoredImage]) -> list[tuple[tuple[str, str], list[ScoredImage]]]:
    """The images of each split and of each group, where there are several."""
    parts = list[tuple[tuple[str, str], list[ScoredImage]]]()
    for kind in ("split", "group"):
        named = defaultdict[str, list[ScoredImage]](list)
        for image in images:
            if (name := getattr(image, kind)) is not None:
                named[name].append(image)
        if len(named) > 1:
            parts += [((kind, name), named[name]) for name in sorted(named)]
    return parts


def _rank_differing(models: Sequence[Contender], primary: str) -> list[str]:
    if len(models) < 2:
        return []
    apart = {name: abs(_score(models[0], name, primary) - _score(models[1], name, primary)) for name in models[0].rows}
    ranked = sorted((name for name in apart if apart[name] > 0), key=lambda name: -apart[name])
    return ranked[:EXTREMES]


def _score(model: Contender, name: str, primary: str) -> float:
    """NaN where the model has none."""
    value = model.rows.get(name, {}).get(primary)
    return np.nan if value is None or isinstance(value, str) else float(value)


def _say(score: float) -> str:
    return "–" if np.isnan(score) else f"{score:.3f}"


def _count(values: Iterable[str]) -> dict[str, int]:
    listed = list(values)
    return {value: listed.count(value) for value in sorted(set(listed))}
