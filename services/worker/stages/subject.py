"""The image whose objects are written down."""

from dataclasses import dataclass
from functools import cached_property
from itertools import chain, count

from services.worker.predictor import ServedModel
from services.worker.stages.facts import ImageFacts, probability_map
from services.worker.writers.label_zarr import LabelMap
from shared.imaging.objects.measuring import Legend
from shared.schemas.jobs import SegmentParameters
from shared.slides import Slide
from shared.tables import JobImage


@dataclass(frozen=True)
class Subject:
    """What every writer may need to know of it. Height, width and µm per pixel are the image's own."""

    image: JobImage
    facts: ImageFacts
    model: ServedModel
    parameters: SegmentParameters
    channels: tuple[str, ...]

    @classmethod
    def of(
        cls, image: JobImage, facts: ImageFacts, model: ServedModel, parameters: SegmentParameters, slide: Slide
    ) -> "Subject":
        """Of an open image."""
        return cls(image, facts, model, parameters, name_apart(slide.channels))

    @property
    def name(self) -> str:
        """What the user calls it; of two models that are compared, the row of each has a name of its own."""
        return str(self.image.entry.get("name", self.image.name))

    @property
    def height(self) -> int:
        """Rows, px."""
        return self.facts.size[0]

    @property
    def width(self) -> int:
        """Columns, px."""
        return self.facts.size[1]

    @property
    def mpp(self) -> float | None:
        """µm per pixel, if known."""
        return self.facts.mask_mpp

    @cached_property
    def legend(self) -> Legend:
        """What the figures of its objects mean."""
        classes = tuple(self.model.contract.classes)
        return Legend(classes, self.channels, self.mpp, border_class=self.parameters.objects.border_class)

    @property
    def categories(self) -> dict[str, int]:
        """Classes of objects, by name, and their numbers; the same for all images of a job."""
        return {name: number for number, name in enumerate(self.legend.classes) if number > 0}

    @property
    def label_map(self) -> LabelMap:
        """The shape of its label image beside the probabilities."""
        levels = probability_map(self.model.contract, self.facts).levels
        return LabelMap(self.height, self.width, self.facts.block_side, self.mpp, levels)


def name_apart(channels: tuple[str, ...]) -> tuple[str, ...]:
    """The channels' names, those that occur before with their number, or with the next that makes a new name."""
    named = list[str]()
    for number, name in enumerate(channels, start=1):
        numbered = (f"{name or 'channel'} {other}" for other in count(number))
        named.append(next(each for each in chain([name] if name else [], numbered) if each not in named))
    return tuple(named)
