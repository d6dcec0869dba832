"""What is found out about one image: every pixel of it up to 64 million, a fixed sample of a larger one."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from shared.examination.fingerprints import Border, Fingerprint, is_blank, make_miniature
from shared.examination.intensities import Intensities, Sharpness, mean_channels
from shared.examination.thumbnails import SIDE, encode_thumbnail
from shared.imaging.levels import COUNT
from shared.imaging.tiling import Box, Pixels
from shared.layouts.documents import short_name
from shared.schemas.manifests import Problem
from shared.slides import Slide
from shared.slides.windows import store

WHOLE = 64_000_000  # px; larger images are sampled
BAND = 2**22  # px read at once, or a row of the file's tiles
REGION, REGIONS = 256, 8  # px; a sample is 8 × 8 regions spread evenly
BINS = 64  # of the histogram that is kept
GROUND = 30  # grey levels, where no light comes from
DARK, LIGHT = 90, 140  # grey levels: a median below tells a dark picture, above a bright one
GLASS = 3.0  # times as far as to the brightest lie the darkest pixels of a grey picture of dark things on glass
# Averages over so many pixels tell noise from things; of these, and of the pixels, how much more than noise explains.
ENOUGH, SCATTER, SPARE = 16, 4.0, 1.3
LAPLACE = 20.0  # by which the Laplacian multiplies the variance of noise that no pixel shares with another: 4² + 4
GLARE = 0.02  # share of saturated pixels that spoils a fluorescence image

Lines = NDArray[np.float32]
Illumination = Literal["brightfield", "fluorescence", "unclear"]


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels (h, w, 3) as a value that compares with others."""

    pixels: Pixels = field(default_factory=lambda: np.empty((0, 0, 3), dtype=np.uint8))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picture) and np.array_equal(self.pixels, other.pixels)

    __hash__ = None  # type: ignore[assignment]  # as of arrays


class ImageExamination(BaseModel):
    """The facts about an image, as JSON; the overview goes its own way and is left out of it."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    format: str
    height: int  # px
    width: int  # px
    mpp: float | None  # µm per pixel
    dtype: str  # of the file's samples
    channels: list[str]  # what the file calls them
    grey: bool  # all pixels seen have three equal channels; then the lists below have one entry, otherwise three
    sampled: bool  # whether only the overview and some regions were looked at
    histogram: list[list[int]]  # for each channel how many of the pixels seen lie in each of 64 bins of 4 grey levels
    mean: list[float]  # of each channel, grey levels
    deviation: list[float]  # standard deviation of each channel, grey levels
    saturated: float  # share of the pixels of which a channel is 255
    black: float  # share of the pixels that are 0
    focus: float  # variance of the Laplacian, see `Sharpness`
    blank: bool  # nothing is to be seen
    illumination: Illumination  # a guess
    # Of the decoded pixels and the window they were seen through: the same in whichever container they are.
    pixels_sha256: str  # of a sample if `sampled`
    fingerprint: str  # base64 of a packed `Fingerprint`
    picture: Picture = Field(Picture(), exclude=True, repr=False)

    @property
    def overview(self) -> Pixels:
        """(h, w, 3), neither side above 256 px; empty after a way through JSON."""
        return self.picture.pixels

    @property
    def thumbnail(self) -> bytes:
        """The overview as a JPEG."""
        return encode_thumbnail(self.overview)


@dataclass
class _Sight:
    """What has been seen of an image so far."""

    above: Lines  # (0 … 2, W): the last rows that were seen, grey
    intensities: Intensities = field(default_factory=Intensities)
    sharpness: Sharpness = field(default_factory=Sharpness)
    first: Lines | None = None  # (W,): the image's first row, grey
    sides: list[Lines] = field(default_factory=list)  # (h, 2): the outermost columns of each band, grey

    def add_band(self, band: Pixels) -> None:
        """A band as wide as the image, right below the last one."""
        self.intensities.add(band)
        grey = mean_channels(band)
        joined = np.concatenate([self.above, grey])
        self.sharpness.add(joined)
        self.above = joined[-2:].copy()
        self.first = grey[0] if self.first is None else self.first
        self.sides.append(grey[:, [0, -1]])

    def add_region(self, region: Pixels) -> None:
        """A region on its own."""
        self.intensities.add(region)
        self.sharpness.add(mean_channels(region))

    def borders(self) -> list[Lines]:
        """The outermost lines in the order of `Border`; none of an image of which only regions were seen."""
        if self.first is None:
            return [np.zeros(1, dtype=np.float32) for _ in Border]
        sides = np.concatenate(self.sides)
        lines = {Border.TOP: self.first, Border.BOTTOM: self.above[-1], Border.LEFT: sides[:, 0]}
        lines[Border.RIGHT] = sides[:, 1]
        return [lines[border] for border in Border]


def examine_image(slide: Slide, *, check: Callable[[], None]) -> ImageExamination:
    """Look at an image once. Above 64 MPx: at its overview and a sample that depends on its size alone.

    `check` is called now and then, and may raise to break it off.

    Raises:
        Rejected: the data are damaged.
    """
    sight = _Sight(above=np.empty((0, slide.width), dtype=np.float32))
    sampled = slide.height * slide.width > WHOLE
    overview = _sample(slide, sight, check) if sampled else _read_all(slide, sight, check)
    miniature = make_miniature(overview)
    fingerprint = Fingerprint.of(miniature, sight.borders())
    seen = sight.intensities
    kept = 1 if seen.grey else 3
    return ImageExamination(
        format=slide.format,
        height=slide.height,
        width=slide.width,
        mpp=slide.mpp,
        dtype=slide.dtype,
        channels=[short_name(channel) for channel in slide.channels],
        grey=seen.grey,
        sampled=sampled,
        histogram=seen.histogram[:kept].reshape(-1, BINS, COUNT // BINS).sum(axis=2).tolist(),
        mean=seen.means()[:kept],
        deviation=seen.deviations()[:kept],
        saturated=seen.saturated / seen.pixels,
        black=seen.black / seen.pixels,
        focus=sight.sharpness.variance(),
        blank=is_blank(miniature) or (slide.window is not None and _is_noise(miniature, sight, slide)),
        illumination=_guess_illumination(seen),
        pixels_sha256=seen.digest(slide.height, slide.width, store(slide.window)),
        fingerprint=b64encode(fingerprint.pack()).decode(),
        picture=Picture(overview),
    )


def find_image_problems(name: str, examination: ImageExamination) -> list[Problem]:
    """Warnings about an image that decodes. `name`: what the user calls it."""
    if examination.blank:
        text = (
            f"{name}: the image shows nothing, all of it is of one brightness or noise; check the exposure, or leave "
            "it out"
        )
        return [Problem(code="image_blank", severity="warning", text=text)]
    if examination.illumination == "fluorescence" and examination.saturated > GLARE:
        text = (
            f"{name}: {examination.saturated:.0%} of the pixels are at the camera's limit, so that what lies in them "
            "is lost; expose less, or export without stretching the contrast"
        )
        return [Problem(code="image_saturated", severity="warning", text=text)]
    return []


def _read_all(slide: Slide, sight: _Sight, check: Callable[[], None]) -> Pixels:
    """Every pixel, in bands from the top; returns the overview, averaged down meanwhile."""
    factor = -(-max(slide.height, slide.width) // SIDE)
    parts = []
    for band in _bands(slide, factor):
        check()
        pixels = slide.read(band)
        sight.add_band(pixels)
        parts.append(np.asarray(Image.fromarray(pixels).reduce(factor)))
    return np.concatenate(parts)


def _bands(slide: Slide, factor: int) -> Iterator[Box]:
    """As high as whole tiles of the file, and a multiple of `factor` px, so that averages do not straddle them."""
    tile = min(slide.levels[0].tile[0], slide.height)
    rows = max(BAND // slide.width // tile, 1) * tile
    rows = max(rows // factor, 1) * factor
    for top in range(0, slide.height, rows):
        yield Box(top, 0, min(top + rows, slide.height), slide.width)


def _sample(slide: Slide, sight: _Sight, check: Callable[[], None]) -> Pixels:
    """The regions of the sample; returns the overview."""
    for top in _starts(slide.height):
        for left in _starts(slide.width):
            check()
            bottom, right = min(top + REGION, slide.height), min(left + REGION, slide.width)
            sight.add_region(slide.read(Box(top, left, bottom, right)))
    return slide.overview(SIDE, check)


def _starts(length: int) -> list[int]:
    """Where the regions begin along an axis, px: in the middle of eight equal parts, fewer where they would overlap."""
    count = min(REGIONS, max(length // REGION, 1))
    return [max((2 * number + 1) * length // (2 * count) - REGION // 2, 0) for number in range(count)]


def _is_noise(miniature: Lines, sight: _Sight, slide: Slide) -> bool:
    """Whether all that a stretched window shows is the camera's noise, which differs from each pixel to the next.

    How strong that would be tells the Laplacian; it must explain how much the pixels differ, and averages of many.
    """
    noise, averaged = sight.sharpness.variance() / LAPLACE, slide.height * slide.width / miniature.size
    channels = 1 if sight.intensities.grey else 3  # whose mean the Laplacian saw
    differing = float(np.mean(np.square(sight.intensities.deviations()))) / channels
    return bool(averaged >= ENOUGH and differing <= SPARE * noise and miniature.var() <= SCATTER * noise / averaged)


def _guess_illumination(seen: Intensities) -> Illumination:
    """By where the bulk of the pixels lies in the range: bright on dark, or dark (or coloured) on bright."""
    low, middle, high = (float(np.mean(seen.percentiles(percent))) for percent in (1, 50, 99))
    if low < GROUND and middle < DARK and high - middle > middle - low:
        return "fluorescence"
    if middle > LIGHT and (not seen.grey or middle - low > GLASS * (high - middle)):
        return "brightfield"
    return "unclear"
