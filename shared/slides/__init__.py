"""The port to images on disk, whatever their format and size: regions in, uint8 RGB out.

The worker reads what it segments and the trainer what it learns from through the same readers, so that a network
never meets pixels it was not trained on.
"""

from shared.slides.opening import open_slide
from shared.slides.slide import Limits, Slide, TooLarge

__all__ = ["Limits", "Slide", "TooLarge", "open_slide"]
