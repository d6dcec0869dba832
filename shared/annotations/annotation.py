"""What a mask says about its image, whatever file it came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from shared.annotations.values import Labels
from shared.imaging.tiling import Pixels

FoundKind = Literal["instances", "binary", "classes"]


@dataclass(frozen=True)
class Annotation:
    """The truth about an image of H × W px: which object, or which class, each pixel belongs to."""

    kind: FoundKind
    source: str  # name of the mask file, for messages
    labels: Labels | None = None  # (H, W), 1, 2, … for the objects, 0 = background; None where objects are not told
    classes: Pixels | None = None  # (H, W), class of each pixel, 0 = background; 1 = foreground of a binary mask
    class_names: Mapping[int, str] = field(default_factory=dict)  # of the classes above 0, where they are known
    notes: tuple[str, ...] = ()  # what was left out, or how a doubt was resolved
    is_soft: bool = False  # values that are scattered as in a picture, not as labels are
    as_stored: bool = True  # False: the file's numbers say so only by a rule that other readers need not know

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        either = self.labels if self.labels is not None else self.classes
        if either is None:
            raise ValueError(f"{self.source}: an annotation without labels or classes")
        return either.shape[0], either.shape[1]
