"""Drawn microscopy: nuclei whose outlines are known, so that demos and tests need no data of anybody's."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from shared.imaging.tiling import Pixels

Stain = Literal["fluorescence", "histology"]
Labels = NDArray[np.uint16]
Field = NDArray[np.float64]

# Optical density of the stains in red, green and blue, Ruifrok and Johnston 2001, table 1.
HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
EOSIN = np.array([0.07, 0.99, 0.11])
DAB = np.array([0.27, 0.57, 0.78])

_HARMONICS = np.arange(2, 6)  # 1 would only shift the outline


@dataclass(frozen=True)
class _Habit:
    """What the nuclei of one image have in common."""

    radius: float  # px, typical
    stretch: float  # length by width of the longest
    turn: float  # radians, the direction they tend to
    order: float  # 0: every direction is as likely, 1: all lie the same way


@dataclass(frozen=True)
class _Nucleus:
    """An ellipse with a wavy outline: radius at angle a = ellipse(a) · (1 + Σ waves · cos(k·a + phases))."""

    row: float
    column: float
    radii: tuple[float, float]  # px
    turn: float  # radians
    waves: Field
    phases: Field

    @property
    def reach(self) -> int:
        """No pixel of the nucleus is further from its centre than this, px."""
        return int(np.ceil(max(self.radii) * (1 + np.abs(self.waves).sum())))


def draw_nuclei(height: int, width: int, *, seed: int, stain: Stain) -> tuple[Pixels, Labels]:
    """An image (height, width, 3) and its nuclei as labels (height, width), 0 = background.

    Sizes, shapes, brightness, texture, density, blur and noise vary, within the image and between seeds; some nuclei
    touch. `fluorescence`: bright on dark, grey. `histology`: purple to blue on pink, brown and white.

    Raises:
        ValueError: the stain is unknown.
    """
    if stain not in ("fluorescence", "histology"):
        raise ValueError(f"stain must be fluorescence or histology, got {stain!r}")
    generator = np.random.default_rng(seed)
    labels = _draw_labels(height, width, generator)
    draw = _draw_fluorescence if stain == "fluorescence" else _draw_histology
    return draw(labels, generator), labels


def _draw_labels(height: int, width: int, generator: Generator) -> Labels:
    """Nuclei one after the other; one that meets another ends at its outline, one mostly hidden is left out."""
    labels = np.zeros((height, width), np.uint16)
    habit = _Habit(
        radius=generator.uniform(5, 12),
        stretch=generator.uniform(1.3, 3),
        turn=generator.uniform(0, np.pi),
        order=generator.uniform(0, 1),
    )
    count = int(generator.uniform(0.08, 0.4) * height * width / (np.pi * habit.radius**2)) + 1
    before: _Nucleus | None = None
    for number in range(1, min(count, np.iinfo(np.uint16).max) + 1):
        nucleus = _draw_nucleus(height, width, habit, generator)
        if before is not None and generator.random() < 0.25:
            nucleus = _beside(before, nucleus, generator)
        _paint(labels, nucleus, number)
        before = nucleus
    return labels


def _draw_nucleus(height: int, width: int, habit: _Habit, generator: Generator) -> _Nucleus:
    radius = habit.radius * generator.lognormal(sigma=0.2)
    stretch = generator.uniform(1, habit.stretch)
    return _Nucleus(
        row=generator.uniform(0, height),
        column=generator.uniform(0, width),
        radii=(radius * stretch**0.5, radius / stretch**0.5),
        turn=habit.turn + (1 - habit.order) * generator.uniform(-np.pi / 2, np.pi / 2),
        waves=generator.normal(0, 0.09, _HARMONICS.size) / _HARMONICS**0.7,
        phases=generator.uniform(0, 2 * np.pi, _HARMONICS.size),
    )


def _beside(other: _Nucleus, nucleus: _Nucleus, generator: Generator) -> _Nucleus:
    """The nucleus moved so that it touches the other."""
    angle = generator.uniform(0, 2 * np.pi)
    distance = 0.9 * (np.mean(other.radii) + np.mean(nucleus.radii))
    row, column = other.row + distance * np.sin(angle), other.column + distance * np.cos(angle)
    return _Nucleus(row, column, nucleus.radii, nucleus.turn, nucleus.waves, nucleus.phases)


def _paint(labels: Labels, nucleus: _Nucleus, number: int) -> None:
    top, left = (max(int(centre) - nucleus.reach, 0) for centre in (nucleus.row, nucleus.column))
    window = labels[top : int(nucleus.row) + nucleus.reach + 2, left : int(nucleus.column) + nucleus.reach + 2]
    if window.size == 0:  # placed beside another, outside the image
        return
    rows, columns = np.ogrid[: window.shape[0], : window.shape[1]]
    down, right = rows + top - nucleus.row, columns + left - nucleus.column
    angle = np.arctan2(down, right)
    long, short = nucleus.radii
    ellipse = 1 / np.hypot(np.cos(angle - nucleus.turn) / long, np.sin(angle - nucleus.turn) / short)
    outline = ellipse * (1 + np.cos(angle[..., None] * _HARMONICS + nucleus.phases) @ nucleus.waves)
    inside = np.hypot(down, right) <= outline
    free = inside & (window == 0)
    if 2 * free.sum() > inside.sum():
        window[free] = number


def _draw_fluorescence(labels: Labels, generator: Generator) -> Pixels:
    """Dark ground with a gradient, out-of-focus haze, shot and read noise; as an exposure that may be dim."""
    nuclei = labels > 0
    stained = nuclei * _per_nucleus(labels, generator, spread=0.35) * _dome(nuclei)
    stained *= 1 + 0.2 * _clouds(labels.shape, 3, generator) + 0.1 * _clouds(labels.shape, 1, generator)
    light = gaussian_filter(stained, generator.uniform(0.7, 1.8))
    light += generator.uniform(0.02, 0.25) * gaussian_filter(stained, 12)
    light += generator.uniform(0.0, 0.12) * (1 + 0.6 * _clouds(labels.shape, max(labels.shape) / 3, generator))
    exposure = generator.uniform(40, 400)  # photons of a typical nucleus
    seen = generator.poisson(np.clip(light, 0, None) * exposure) / exposure
    gain = generator.uniform(50, 190)
    grey = gain * seen + generator.normal(generator.uniform(2, 14), generator.uniform(0.5, 2.5), labels.shape)
    return np.repeat(_to_uint8(grey)[..., None], 3, axis=2)


def _draw_histology(labels: Labels, generator: Generator) -> Pixels:
    """Light absorbed by haematoxylin in the nuclei and other stains around them (Beer and Lambert), white gaps."""
    nuclei = labels > 0
    fibres = np.clip(1 + 0.35 * _clouds(labels.shape, 4, generator) + 0.25 * _clouds(labels.shape, 1, generator), 0, 3)
    tissue = _draw_tissue(labels, generator) * fibres
    chromatin = 1 + 0.25 * _clouds(labels.shape, 2, generator) + 0.2 * _clouds(labels.shape, 1, generator)
    blue = nuclei * _per_nucleus(labels, generator, spread=0.3) * chromatin
    around = np.where(nuclei, generator.uniform(0.1, 0.8), 1.0)  # a nucleus pushes the other stains aside
    if generator.random() < 0.5:
        blue *= generator.uniform(0.2, 0.8)
        pink, brown = _stain_with_eosin(tissue * around, generator)
    else:
        blue *= generator.uniform(0.1, 0.5)  # a counterstain, paler than the brown beside it
        pink, brown = _stain_with_dab(tissue * around, generator)
    blue += generator.uniform(0.0, 0.1) * tissue  # cytoplasm takes a little, too
    amounts = np.stack([blue, pink, brown], axis=-1)
    stains = np.stack([HAEMATOXYLIN, EOSIN, DAB]) * generator.uniform(0.85, 1.15, (3, 3))  # no laboratories stain alike
    density = gaussian_filter(amounts @ stains, (*(generator.uniform(0.6, 1.4),) * 2, 0))
    lamp = generator.uniform(225, 250, 3)
    return _to_uint8(lamp * 10.0**-density + generator.normal(0, generator.uniform(1, 5), density.shape))


def _stain_with_eosin(tissue: Field, generator: Generator) -> tuple[Field, Field]:
    """Pink everywhere, and pigment here and there: amounts of eosin and of brown."""
    patches = np.clip(_clouds(tissue.shape, generator.uniform(8, 25), generator) - generator.uniform(0.5, 2), 0, 2)
    return tissue * generator.uniform(0.05, 0.4), tissue * patches * generator.uniform(0, 0.5)


def _stain_with_dab(tissue: Field, generator: Generator) -> tuple[Field, Field]:
    """Immunohistochemistry: whole regions brown, darker along membranes, the rest nearly colourless."""
    regions = 5 * _clouds(tissue.shape, generator.uniform(20, 60), generator) + generator.uniform(-6, 6)
    membranes = np.exp(-((_clouds(tissue.shape, generator.uniform(4, 8), generator) / 0.2) ** 2))
    shades = 1 + generator.uniform(0, 2) * membranes
    brown = np.clip(regions, 0, 1) * shades * generator.uniform(0.1, 0.5)
    return tissue * generator.uniform(0, 0.06), tissue * brown


def _draw_tissue(labels: Labels, generator: Generator) -> Field:
    """1 where there is tissue, 0 in white gaps with soft borders; there is always some around a nucleus."""
    gaps = _clouds(labels.shape, generator.uniform(15, 40), generator) > generator.uniform(0.6, 2.5)
    near_nuclei = distance_transform_edt(labels == 0) < 4
    tissue: Field = gaussian_filter(np.where(gaps & ~near_nuclei, 0.0, 1.0), 1.5)
    return tissue


def _per_nucleus(labels: Labels, generator: Generator, *, spread: float) -> Field:
    """One random factor around 1 for every nucleus, laid over its pixels."""
    factors = generator.lognormal(sigma=spread, size=int(labels.max()) + 1)
    chosen: Field = factors[labels]
    return chosen


def _dome(nuclei: NDArray[np.bool_]) -> Field:
    """A nucleus is thinner towards its outline: 0.55 there, 1 further than 5 px inside."""
    depth: Field = distance_transform_edt(nuclei)
    return 0.55 + 0.45 * np.clip(depth / 5, 0, 1)


def _clouds(shape: tuple[int, ...], size: float, generator: Generator) -> Field:
    """Smooth noise with mean 0 and deviation 1, its patches about `size` px wide."""
    noise = gaussian_filter(generator.normal(size=shape), size, mode="wrap")
    clouds: Field = (noise - noise.mean()) / max(noise.std(), 1e-12)
    return clouds


def _to_uint8(values: Field) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
