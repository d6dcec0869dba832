"""Two models on the same images: by how much one is better, and whether that is more than chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import wilcoxon

from shared.imaging.metrics.summary import Row, summarise

Verdict = Literal["higher", "lower", "undecided"]

FEWEST = 6  # images that differ; of fewer the exact test never tells anything at a level of 5 %


@dataclass(frozen=True)
class Difference:
    """A score of the second model minus that of the first, over the images that both have it for."""

    mean: float
    low: float  # of the interval of the mean
    high: float
    images: int
    higher: int  # images on which the second's score is the higher one
    lower: int
    p: float  # of Wilcoxon's signed-rank test, two-sided; 1 where all are equal
    verdict: Verdict

    @property
    def ties(self) -> int:
        """Images on which both are equal; the test leaves them out."""
        return self.images - self.higher - self.lower


def compare(
    first: Mapping[str, Row],
    second: Mapping[str, Row],
    *,
    names: Sequence[str],
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Difference]:
    """How the scores called `names` differ, from both models' rows by image.

    Paired: of each image the difference is taken, and the interval of its mean is a percentile bootstrap over images
    (Efron 1979). A verdict is given only if the interval excludes 0 and the signed-rank test (Wilcoxon 1945) agrees at
    the same level, of six images that differ at least: ties are no evidence. Nothing is corrected for looking at
    several scores. Scores that no image has for both are left out.
    """
    found = {}
    for name in names:
        pairs = [(_number(first[image], name), _number(second[image], name)) for image in first if image in second]
        differences = [after - before for before, after in pairs if not np.isnan(after - before)]
        if differences:
            found[name] = _judge(differences, seed=seed, confidence=confidence)
    return found


def _number(row: Row, name: str) -> float:
    """The score of that name; NaN where the row has none."""
    value = row.get(name)
    return np.nan if value is None or isinstance(value, str) else float(value)


def _judge(differences: Sequence[float], *, seed: int, confidence: float) -> Difference:
    mean = summarise([{"difference": value} for value in differences], seed=seed, confidence=confidence)["difference"]
    higher, lower = sum(value > 0 for value in differences), sum(value < 0 for value in differences)
    apart = [value for value in differences if value != 0]  # with zeros scipy would not take the exact test
    p = float(wilcoxon(apart).pvalue) if apart else 1.0
    told: Verdict = "undecided"
    if len(apart) >= FEWEST and p < 1 - confidence and (mean.low > 0 or mean.high < 0):
        told = "higher" if mean.low > 0 else "lower"
    return Difference(mean.mean, mean.low, mean.high, mean.images, higher, lower, p, told)
