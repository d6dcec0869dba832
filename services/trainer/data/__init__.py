"""Images and masks to learn from: loaded, divided, cut into crops."""

from services.trainer.data.crops import Batch, Crops
from services.trainer.data.pairs import find_pairs_in
from services.trainer.data.samples import Sample, load_images, load_samples
from services.trainer.data.splits import split

__all__ = ["Batch", "Crops", "Sample", "find_pairs_in", "load_images", "load_samples", "split"]
