"""Images that are there twice: with the same pixels, or the same picture compressed, brightened, turned or shifted.

Among a hundred thousand images are five thousand million pairs. Few of them are ever compared: flips and quarter turns
change nothing but the signs and the order of a picture's cosine coefficients, so that the sizes of the lowest ones,
each pair in order, are a point that all eight views of a picture share. Two pictures are at least as far apart as their
points (neither absolute values nor sorting bring anything further apart, nor does leaving coefficients out), so that it
is enough to look at the nearest around each point. This way of filtering is that of Faloutsos et al. 1994, "Fast
subsequence matching in time-series databases".
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.spatial import cKDTree

from shared.examination.portraits import Gallery, join
from shared.imaging.tiling import Pixels

Field = NDArray[np.float32]
Pairs = NDArray[np.int64]  # (n, 2), the lower number first

ALIKE = 0.97  # correlation of two miniatures from which on they are one picture; other fields of one slide reach 0.83
NEAR = 0.93  # correlation at which a shift by up to half a pixel of the miniature leaves them
LOWEST = 4  # frequencies along each axis that make a point
NEIGHBOURS = 8  # of a picture that are looked at, the nearest: of a film not each frame with each
SHIFT = 1.0  # px of the miniature, at most
SHAPES = 0.03  # by which the ratios of the sides may differ: a few pixels cropped off
CHUNK = 2048  # pictures or pairs worked on at once


@dataclass(frozen=True)
class NearPair:
    """Two images that show the same; `similarity` 0.97 … 1 is the correlation of their miniatures."""

    first: int
    second: int
    similarity: float


@dataclass(frozen=True)
class Duplicates:
    """Images by their number in the dataset."""

    same: list[tuple[int, ...]]  # with the same pixels, two or more each
    near: list[NearPair]  # with other pixels; of those in `same` the first stands for all

    def groups(self) -> list[tuple[int, ...]]:
        """Images that show the same for one reason or the other, each in one group."""
        chains = [(numbers[0], number) for numbers in self.same for number in numbers[1:]]
        return join(chains + [(pair.first, pair.second) for pair in self.near])


def find_duplicates(gallery: Gallery, *, check: Callable[[], None]) -> Duplicates:
    """What is there twice or more. Blank images are alike only if their pixels are the same.

    `check` is called now and then, and may raise to break it off.
    """
    seen = gallery.distinct[gallery.miniatures[gallery.distinct].any(axis=(1, 2))]
    near: list[NearPair] = []
    for candidates in _find_candidates(gallery, seen, check):
        check()
        pairs = candidates[_have_one_shape(gallery.sizes, candidates)]
        similarity = _compare(gallery.miniatures, pairs)
        for (first, second), alike in zip(pairs.tolist(), similarity.tolist(), strict=True):
            if alike >= ALIKE:
                near.append(NearPair(first, second, min(alike, 1.0)))
    return Duplicates(gallery.same, sorted(near, key=lambda pair: (pair.first, pair.second)))


def _find_candidates(gallery: Gallery, seen: NDArray[np.int64], check: Callable[[], None]) -> Iterator[Pairs]:
    """Pairs whose points are close, each once, some thousand at a time."""
    if len(seen) < 2:
        return
    points = np.concatenate([_find_points(gallery.miniatures[part]) for part in _chunks(seen)])
    tree = cKDTree(points)
    reach = np.sqrt(2 * (1 - NEAR))  # distance of two pictures of length 1 that correlate like that
    found = []
    for part in _chunks(np.arange(len(seen))):
        check()
        _, others = tree.query(points[part], k=min(NEIGHBOURS + 1, len(seen)), distance_upper_bound=reach)
        ones = np.repeat(part, others.shape[1])
        pairs = np.stack([ones, others.ravel()], axis=1)[others.ravel() < len(seen)]
        found.append(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1))
    yield from _chunks(np.unique(seen[np.concatenate(found)], axis=0))


def _chunks(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))


def _normalise(miniatures: Pixels) -> Field:
    """(n, 32, 32) with mean 0 and length 1, so that the sum of products is the correlation."""
    centred = miniatures.astype(np.float32)
    centred -= centred.mean(axis=(1, 2), keepdims=True)
    centred /= np.sqrt(np.einsum("nij,nij->n", centred, centred))[:, None, None]
    return centred


def _find_points(miniatures: Pixels) -> Field:
    """(n, 15): sizes of the lowest cosine coefficients, those of (u, v) and (v, u) in order."""
    waves = np.abs(dctn(_normalise(miniatures), axes=(1, 2), norm="ortho")[:, :LOWEST, :LOWEST])
    turned = waves.swapaxes(1, 2)
    upper, lower = np.triu_indices(LOWEST, 1), np.arange(1, LOWEST)
    larger, smaller = np.maximum(waves, turned), np.minimum(waves, turned)
    points: Field = np.concatenate(
        [larger[:, *upper], smaller[:, *upper], waves[:, lower, lower]], axis=1, dtype=np.float32
    )
    return points


def _have_one_shape(sizes: NDArray[np.int64], pairs: Pairs) -> NDArray[np.bool_]:
    """Whether the two images of each pair have one ratio of sides, one of them perhaps lying on its side."""
    ratios = np.log(sizes[:, 0] / sizes[:, 1])
    one, other = ratios[pairs[:, 0]], ratios[pairs[:, 1]]
    upright, turned = np.abs(one - other), np.abs(one + other)
    alike: NDArray[np.bool_] = np.minimum(upright, turned) <= SHAPES
    return alike


def _compare(miniatures: Pixels, pairs: Pairs) -> Field:
    """(n,) correlation of the two of each pair, in the best of eight views, with a small shift taken back."""
    ones, others = (_normalise(miniatures[pairs[:, side]]) for side in (0, 1))
    views = list(_views(others))
    products = np.stack([np.einsum("nij,nij->n", ones, view) for view in views])
    best = products.argmax(axis=0)
    chosen = np.stack(views)[best, np.arange(len(pairs))]
    similarity: Field = np.maximum(_correlate_shifted(ones, chosen), products.max(axis=0))
    return similarity


def _views(pictures: Field) -> Iterator[Field]:
    """The eight ways to look at (n, 32, 32)."""
    for turned in (pictures, pictures.swapaxes(1, 2)):
        for flipped in (turned, turned[:, ::-1]):
            yield flipped
            yield flipped[:, :, ::-1]


def _correlate_shifted(ones: Field, others: Field) -> Field:
    """Correlation after the least-squares shift, to first order: other ≈ a · one + b · down(one) + c · right(one).

    Lucas and Kanade 1981, section 3; the border is left out. −1 where that asks for more than a pixel of shift.
    """
    count = len(ones)
    down, right = (np.asarray(slope) for slope in np.gradient(ones, axis=(1, 2)))
    inside = (slice(None), slice(1, -1), slice(1, -1))
    terms = np.stack([part[inside].reshape(count, -1) for part in (ones, down, right)], axis=1)
    terms = terms - terms.mean(axis=2, keepdims=True)
    target = others[inside].reshape(count, -1)
    target = target - target.mean(axis=1, keepdims=True)
    products = np.einsum("nis,njs->nij", terms, terms) + 1e-6 * np.eye(3, dtype=np.float32)
    onto = np.einsum("nis,ns->ni", terms, target)
    weights = np.linalg.solve(products, onto[..., None])[..., 0]
    explained = np.einsum("ni,ni->n", weights, onto) / np.maximum(np.einsum("ns,ns->n", target, target), 1e-9)
    shift = np.abs(weights[:, 1:]).max(axis=1)
    small = (weights[:, 0] > 0) & (shift <= SHIFT * weights[:, 0])
    return np.where(small, np.sqrt(np.clip(explained, 0, 1)), -1).astype(np.float32)
