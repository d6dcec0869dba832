"""From the names of files to the images of a dataset and their masks: layouts that labs use."""

from shared.layouts.arranging import arrange
from shared.layouts.detection import detect
from shared.layouts.entries import OUTLINES, Arrangement, Contents, Detection, Entry, Layout, MaskKind, Split

__all__ = [
    "OUTLINES",
    "Arrangement",
    "Contents",
    "Detection",
    "Entry",
    "Layout",
    "MaskKind",
    "Split",
    "arrange",
    "detect",
]
