"""All steps of an order on one image: what becomes of it, one after the other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from shared.errors import Rejected
from shared.imaging.steps.augmentation import augment, describe
from shared.imaging.steps.drawn import DrawnTruth
from shared.imaging.steps.kinds import make_image_steps
from shared.imaging.steps.mask_steps import MASK_STEPS, make_mask_step
from shared.imaging.steps.morphology import Check, go_on
from shared.imaging.steps.tiles import Tiles
from shared.imaging.steps.truth import Truth
from shared.imaging.steps.views import Facts, View, plan_steps, reframe
from shared.imaging.tiling import Box, Pixels

Fields = Mapping[str, Any]  # a step as `shared.schemas.steps.as_json` gives it


@dataclass(frozen=True)
class Source:
    """The image that outputs are made of."""

    digest: str  # names its content
    group: str | None = None  # images of one group stay together; its own name if there is none
    split: str | None = None  # train, validation, test; None: not decided, or all train


@dataclass(frozen=True)
class Made:
    """One output. Its pixels are worked out when they are asked for."""

    suffix: str  # of the name: _r0_c1 of a tile, _v07 of a variant; nothing if the source gives one output
    view: View
    truth: Truth
    group: str  # of its source
    split: str | None
    box: Box | None = None  # of a tile: where it lies in its source, as the steps before left that, px
    variant: int | None = None  # of an augmented set
    done: str | None = None  # what the variant is, in words

    @cached_property
    def pixels(self) -> Pixels:
        """All of it, (H, W, 1 or 3)."""
        return self.view.whole()


@dataclass(frozen=True)
class Transformed:
    """An image after the steps that change images and masks."""

    view: View
    truth: Truth | DrawnTruth
    found: list[Facts]  # what was found out about the image, one for each step of images


def transform(
    view: View, truth: Truth | DrawnTruth, steps: Sequence[Fields], source: Source, check: Check = go_on
) -> Iterator[Made]:
    """What a list of steps makes of an image, lazily: of a slide that is tiled only the tile at hand is in memory.

    A `Truth` is held whole; a `DrawnTruth` is drawn for each output. Of an image that validates or tests no variants
    are made; splitting is over by now, see `shared.imaging.steps.sets`. `check` is called now and then while masks are
    changed, and may raise to break it off; reading calls its own.

    Raises:
        Rejected: a step cannot take this image or its mask; the text names the image. Also what reading raises.
    """
    changed = change(view, truth, steps, check)
    for made in _cut(changed, steps, source):
        yield from _vary(made, steps, source)


def change(view: View, truth: Truth | DrawnTruth, steps: Sequence[Fields], check: Check = go_on) -> Transformed:
    """The image after the steps of images, and its truth after those of masks and the resizing, in their order."""
    name, images = view.frame.name, make_image_steps(steps)
    target = reframe(view.frame, images)
    _check_size(view, truth)
    for step in steps:
        if step["step"] == "resize":
            truth = truth.resize(target.height, target.width)
        elif step["step"] in MASK_STEPS:
            truth = _change_mask(truth, step, name, check)
    after, found = plan_steps(view, images)
    return Transformed(after, truth, found)


def _change_mask(truth: Truth | DrawnTruth, step: Fields, name: str, check: Check) -> Truth | DrawnTruth:
    if isinstance(truth, DrawnTruth):
        return truth.after(make_mask_step(step, check), step["step"])
    try:
        return make_mask_step(step, check)(truth)
    except ValueError as error:
        raise Rejected(f"{name}: {error}") from error


def _check_size(view: View, truth: Truth | DrawnTruth) -> None:
    """Of a truth that comes with a size of its own."""
    frame = view.frame
    planes = (truth.labels, truth.classes) if isinstance(truth, Truth) else ()
    for plane in planes:
        if plane is not None and plane.shape != (frame.height, frame.width):
            raise Rejected(
                f"{frame.name}: the image has {frame.width} × {frame.height} px but its mask {plane.shape[1]} × "
                f"{plane.shape[0]} px; make them the same size"
            )


def _cut(changed: Transformed, steps: Sequence[Fields], source: Source) -> Iterator[Made]:
    """The image, or its tiles."""
    view, truth = changed.view, changed.truth
    group = source.group or view.frame.name
    fields = find_step(steps, "tile")
    if fields is None:
        yield Made("", view, truth.whole(), group, source.split)
        return
    for suffix, box, part in Tiles(**fields).choose(view, truth):
        yield Made(suffix, _crop(view, box), part, group, source.split, box)


def _crop(view: View, box: Box) -> View:
    frame = replace(view.frame, height=box.height, width=box.width, tile=(1, 1))
    return View(frame, lambda part: view.read(part.move(box.top, box.left)))


def _vary(made: Made, steps: Sequence[Fields], source: Source) -> Iterator[Made]:
    """The output, or its variants if it is to be learnt from."""
    fields = find_step(steps, "augment")
    if fields is None or made.split in ("validation", "test"):
        yield made
        return
    for variant in range(fields["variants"]):
        digest = source.digest + made.suffix
        pixels, truth = augment(made.pixels, made.truth, variant, seed=fields["seed"], digest=digest)
        view = View.of(pixels, name=made.view.frame.name, mpp=made.view.frame.mpp)
        suffix = f"{made.suffix}_v{variant:02}"
        yield replace(made, suffix=suffix, view=view, truth=truth, variant=variant, done=describe(variant))


def find_step(steps: Sequence[Fields], name: str) -> dict[str, Any] | None:
    """The parameters of a step that may come once."""
    for step in steps:
        if step["step"] == name:
            return {field: value for field, value in step.items() if field != "step"}
    return None
