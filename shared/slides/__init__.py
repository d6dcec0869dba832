"""The port to images, whatever their format and size, on disk or in an object store: regions in, uint8 out.

What is measured is read in the file's own numbers instead (`Slide.read_samples`).

The worker reads what it segments and the trainer what it learns from through the same readers, so that a network
never meets pixels it was not trained on.
"""

from shared.slides.held import HeldSlide
from shared.slides.opening import NotByRanges, open_slide
from shared.slides.ranges import BlockCache, RangedSource
from shared.slides.slide import Limits, Slide, TooLarge
from shared.slides.source import LocalSource, Source
from shared.slides.tiff import count_pages
from shared.slides.windows import Windows

__all__ = [
    "BlockCache",
    "HeldSlide",
    "Limits",
    "LocalSource",
    "NotByRanges",
    "RangedSource",
    "Slide",
    "Source",
    "TooLarge",
    "Windows",
    "count_pages",
    "open_slide",
]
