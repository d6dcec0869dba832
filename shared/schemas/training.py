"""Wire shapes of a training: which network learns from what, how, and for how long."""

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from shared.schemas.datasets import FileName, Name
from shared.schemas.objects import ObjectsIn
from shared.schemas.preparation import PreparationIn, check_stain
from shared.schemas.recipes import fill_from_recipe
from shared.schemas.references import EXAMPLE_ID, DatasetReference, ModelReference


class _Part(BaseModel):
    """A group of settings inside an order: fixed, and without a place for misspelt names."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Widths = Annotated[
    list[Annotated[int, Field(ge=1, le=2048)]],
    Field(min_length=2, max_length=7, description="channels per level, the deepest last"),
]
Classes = Annotated[
    int, Field(ge=1, le=64, description="1: one sigmoid plane; more: a softmax with background as class 0")
]
FULL_WIDTHS = [64, 128, 256, 512, 1024]


class UNetIn(_Part):
    """A UNet. The defaults are the padded one with batch normalisation and transposed convolutions."""

    name: Literal["unet"] = "unet"
    widths: Widths = FULL_WIDTHS
    channels: Literal[1, 3] = 3
    classes: Classes = 1
    padding: Literal["same", "valid"] = Field(
        "same", description="valid: unpadded convolutions as in 2015, the answer is smaller than the input"
    )
    batch_norm: bool = True
    decoder: Literal["transposed", "upsampling"] = "transposed"
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the features silenced while training")


class UNetStnIn(_Part):
    """A spatial transformer whose warped image is a second input of a UNet."""

    name: Literal["unet_stn"]
    widths: Widths = FULL_WIDTHS
    channels: Literal[1, 3] = 1
    classes: Classes = 1
    batch_norm: bool = False
    decoder: Literal["transposed", "upsampling"] = "upsampling"
    dropout: float = Field(0.2, ge=0, lt=1, description="share of the features silenced while training")
    transform: Literal["projective", "affine"] = "projective"
    overview: int = Field(256, ge=32, le=1024, description="side to which the localiser's view is scaled, px")
    size_free: bool = Field(
        True, description="average-pool before the dense layer; false: as published, a dense layer over every pixel"
    )


class UNetPlusPlusIn(_Part):
    """A UNet++: nested skips, a head at each depth."""

    name: Literal["unet_plus_plus"]
    widths: Widths = [32, 64, 128, 256, 512]
    channels: Literal[1, 3] = 3
    classes: Classes = 1
    deep_supervision: bool = Field(True, description="every head learns, the answer is their mean")
    serve_level: int | None = Field(
        None, ge=1, le=6, description="prune what is exported to this depth; needs deep_supervision"
    )

    @model_validator(mode="after")
    def _has_the_level(self) -> Self:
        if self.serve_level is not None and not (self.deep_supervision and self.serve_level < len(self.widths)):
            raise ValueError(
                f"serve_level prunes to a depth of 1 … {len(self.widths) - 1} and needs deep_supervision, "
                f"got {self.serve_level}"
            )
        return self


NetworkIn = Annotated[UNetIn | UNetStnIn | UNetPlusPlusIn, Field(discriminator="name")]


class MasksIn(_Part):
    """What the numbers in the mask files mean."""

    kind: Literal["binary", "instances", "classes"] = Field(
        "binary", description="instances: a number per object; classes: a number per class, 0 = background"
    )
    foreground: Literal["nonzero", "zero"] = Field(
        "nonzero", description="zero: pixels of value 0 are what is looked for (membranes of ISBI 2012)"
    )
    separate: bool = Field(False, description="touching instances are parted by a line of background")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.separate and self.kind != "instances":
            raise ValueError("separate needs masks of kind instances: it parts objects by their numbers")
        if self.foreground == "zero" and self.kind != "binary":
            raise ValueError("foreground 'zero' is for binary masks; in others 0 is the background")
        return self


class BorderIn(_Part):
    """The border weights of Ronneberger et al. 2015: w0 · exp(−(d1 + d2)² / 2σ²) on top of the class weights."""

    w0: float = Field(10.0, ge=0, le=1000)
    sigma: float = Field(5.0, gt=0, le=100, description="px")


class LossIn(_Part):
    """The sum of weighted terms that training makes small."""

    cross_entropy: float = Field(1.0, ge=0, le=100, description="weight of the mean (binary) cross-entropy")
    dice: float = Field(0.0, ge=0, le=100, description="weight of 1 − soft Dice")
    class_weights: Literal["none", "frequency"] = Field(
        "none", description="frequency: rare classes count more in the cross-entropy"
    )
    border: BorderIn | None = Field(None, description="needs masks of kind instances")

    @model_validator(mode="after")
    def _is_a_loss(self) -> Self:
        if self.cross_entropy == 0 and self.dice == 0:
            raise ValueError("a loss needs a term: cross_entropy or dice above 0")
        if self.border is not None and self.cross_entropy == 0:
            raise ValueError("border weighs the cross-entropy, which is 0")
        return self


class AugmentationIn(_Part):
    """Changes to the crops that leave their truth true, drawn anew each time. 0 and false leave out."""

    turns: bool = Field(True, description="by 90, 180 or 270°")
    flips: bool = True
    scale: float = Field(0.0, ge=0, lt=1, description="0.1: by a factor of 0.9 … 1.1")
    translate: float = Field(0.0, ge=0, le=512, description="up to ± this many px")
    rotate: float = Field(0.0, ge=0, le=180, description="up to ± this many degrees")
    shear: float = Field(0.0, ge=0, lt=90, description="up to ± this many degrees")
    elastic: float = Field(0.0, ge=0, le=100, description="size of elastic displacements, px")
    elastic_sigma: float = Field(12.0, gt=0, le=100, description="smoothness of elastic displacements, px")
    contrast: float = Field(0.0, ge=0, lt=1, description="0.2: values times 0.8 … 1.2")
    brightness: float = Field(0.0, ge=0, le=255, description="values plus up to ± this, of 255")
    colour: float = Field(0.0, ge=0, lt=1, description="0.1: each colour for itself times 0.9 … 1.1")
    invert: float = Field(0.0, ge=0, le=1, description="share of crops whose bright becomes dark")
    equalise: float = Field(0.0, ge=0, le=1, description="share of crops whose histogram is equalised")


class RatioSplit(_Part):
    """A share of the images, drawn by the seed, validates."""

    by: Literal["ratio"] = "ratio"
    fraction: float = Field(0.2, gt=0, lt=1, description="share of the images kept for validation")


class GroupSplit(_Part):
    """As by ratio, but all images of one source stay on one side.

    The source is the first `fields` parts of the file's name: of `images/a_10_003.png`, `a_10` with two fields.
    """

    by: Literal["group"]
    fraction: float = Field(0.2, gt=0, lt=1, description="share of the images kept for validation")
    separator: str = Field("_", min_length=1, max_length=5)
    fields: int = Field(1, ge=1, le=20)


class ListSplit(_Part):
    """The named images validate, all others are learnt from."""

    by: Literal["list"]
    validation: list[FileName] = Field(min_length=1, max_length=100_000)


class DatasetSplit(_Part):
    """The version's own splits: `validation` validates, `train` and what has no split is learnt from.

    Images of the split `test` are never used in a training, however it is split.
    """

    by: Literal["dataset"]
    fraction: float = Field(0.2, gt=0, lt=1, description="as by ratio, where the version has no image for validation")


SplitIn = Annotated[RatioSplit | GroupSplit | ListSplit | DatasetSplit, Field(discriminator="by")]


class StartIn(_Part):
    """Begin with the weights of a registered version instead of random ones (fine-tuning)."""

    model: ModelReference
    freeze_encoder: bool = Field(False, description="the way down keeps its weights")


class LocaliserIn(_Part):
    """Teach the localiser of a UNet+STN first, on images without masks: undo a known warp that was applied."""

    epochs: int = Field(10, ge=1, le=10_000)
    learning_rate: float = Field(1e-3, gt=0, le=1)
    rotate: float = Field(30.0, ge=0, le=180, description="the warps turn up to ± this many degrees")
    scale: float = Field(0.1, ge=0, lt=1)
    translate: float = Field(0.1, ge=0, lt=1, description="share of the side")


def _check_border(name: str, kind: str, classes: int) -> None:
    """Raise ValueError if the model will have no class of that name between its objects."""
    if kind != "classes" or classes < 3:
        raise ValueError(
            "objects.border_class needs masks of kind classes and a network of 3 classes or more, these are of kind "
            f"{kind} and it has {classes}"
        )
    names = [f"class {number}" for number in range(1, classes)]  # as a trained model calls them
    if name not in names:
        raise ValueError(
            f"objects.border_class: a model that is trained calls its classes {names[0]!r} … {names[-1]!r}, by their "
            f"numbers in the masks; there is no {name!r}"
        )


class TrainIn(BaseModel):
    """Train a network on a dataset version with `images/…` and `masks/…` of the same names, and register it.

    A `recipe` fills every field that is not given; what is given wins, also inside the groups.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"kind": "train", "recipe": "nuclei-starter", "dataset": "cohort-7"},
                {
                    "kind": "train",
                    "dataset_version": EXAMPLE_ID,
                    "model": "nuclei",
                    "network": {"name": "unet", "widths": [32, 64, 128, 256]},
                    "epochs": 40,
                },
            ]
        },
    )

    kind: Literal["train"]
    recipe: Name | None = Field(None, description="a named training configuration, see /v1/recipes")
    small: StrictBool = Field(False, description="the recipe's narrower, shorter variant for a machine without a GPU")
    dataset: DatasetReference | None = Field(None, description="a dataset's newest version, or `name@3`")
    dataset_version: UUID | None = Field(None, description="instead of `dataset`")
    model: Name = Field(
        "", validate_default=True, description="name under which the new version is registered; by default the recipe's"
    )

    network: NetworkIn = Field(default_factory=UNetIn)
    preparation: PreparationIn = Field(default_factory=PreparationIn)
    masks: MasksIn = Field(default_factory=MasksIn)
    split: SplitIn = Field(default_factory=RatioSplit)
    augmentation: AugmentationIn = Field(default_factory=AugmentationIn)
    loss: LossIn = Field(default_factory=LossIn)
    start: StartIn | None = None
    localiser: LocaliserIn | None = None

    resize: int | None = Field(None, ge=32, le=4096, description="scale every training image to this side first, px")
    crop: int = Field(256, ge=32, le=2048, description="side of the random training crops, px")
    crops_per_image: int | None = Field(
        None, ge=1, le=10_000, description="crops of each image in an epoch; by default as many as its area holds"
    )
    epochs: int = Field(20, ge=1, le=10_000, description="passes over the training images, at most")
    batch_size: int = Field(8, ge=1, le=1024, description="crops that the network sees at once")
    accumulate: int = Field(1, ge=1, le=1024, description="batches whose gradients are summed for one step")
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = Field(1e-4, gt=0, le=1)
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    weight_decay: float = Field(0.0, ge=0, le=1)
    schedule: Literal["constant", "cosine", "plateau"] = Field(
        "cosine", description="cosine: falls to 0 along half a cosine; plateau: to a third when validation rests"
    )
    plateau_patience: int = Field(5, ge=1, le=1000, description="epochs without a better loss until the rate falls")
    patience: int | None = Field(None, ge=1, le=10_000, description="stop after so many epochs without a better Dice")

    threshold: float | None = Field(
        None, gt=0, lt=1, description="recommended threshold; by default the one with the best validation IoU"
    )
    closing: int = Field(0, ge=0, le=32, description="recommended radius of the closing of the mask, px")
    objects: ObjectsIn | None = Field(None, description="recommended rules by which objects are told apart")

    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="auto: bf16 where the hardware computes in it"
    )
    int8: bool = Field(
        False,
        description="served faster on processors that compute in int8, if it loses no more than 0.002 of the mean Dice",
    )
    devices: int = Field(1, ge=1, le=64, description="processors or graphics cards that share each batch")
    deterministic: bool = Field(False, description="bit for bit repeatable on the same hardware, a little slower")
    seed: int = Field(0, ge=0, lt=2**31)

    @model_validator(mode="before")
    @classmethod
    def _begin_with_the_recipe(cls, order: Any) -> Any:
        if not isinstance(order, dict):
            return order
        order = fill_from_recipe(order)
        for group, kind, usual in (("network", "name", "unet"), ("split", "by", "ratio")):
            if isinstance(order.get(group), dict):
                order[group] = {kind: usual, **order[group]}
        return order

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.dataset is None) == (self.dataset_version is None):
            raise ValueError("name the images by either dataset or dataset_version")
        if self.network.classes not in ((1, 2) if self.masks.kind != "classes" else range(2, 65)):
            raise ValueError(
                f"a network of {self.network.classes} classes does not fit masks of kind {self.masks.kind}: binary "
                "masks and instances have 1 class, or 2 with the background; masks of kind classes 2 or more"
            )
        if self.loss.border is not None and self.masks.kind != "instances":
            raise ValueError("loss.border needs masks of kind instances: it weighs the gaps between objects")
        if self.objects is not None and self.objects.border_class is not None:
            _check_border(self.objects.border_class, self.masks.kind, self.network.classes)
        if self.localiser is not None and self.network.name != "unet_stn":
            raise ValueError("only a unet_stn has a localiser to teach")
        check_stain(self.preparation.stain, self.network.channels)
        return self
