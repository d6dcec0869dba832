"""How good a segmentation is: pixels, objects, borders and topology, each by its published definition.

Rules for nothing: where neither truth nor prediction has foreground they agree, and every score is 1 (every error 0);
where only one of them has, every measure of overlap is 0.
"""

from shared.imaging.metrics.evaluation import score_borders, score_image
from shared.imaging.metrics.pixels import Confusion, sweep_thresholds
from shared.imaging.metrics.summary import summarise

__all__ = ["Confusion", "score_borders", "score_image", "summarise", "sweep_thresholds"]
