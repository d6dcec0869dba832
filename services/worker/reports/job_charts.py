"""The charts of a segment job's report."""

from collections import Counter
from collections.abc import Iterator, Mapping

from markupsafe import Markup

from services.worker.reports.charts import draw_bars, draw_columns
from shared.imaging.objects.summary import STEPS, ObjectSummary, find_edge

BARS = 12  # classes that a chart shows
TICKS = 6
LARGER = 2  # bins of the chart in a doubling


def draw_job_charts(
    found: ObjectSummary, per_image: Mapping[int, int], densities: Mapping[int, int]
) -> Iterator[tuple[str, Markup]]:
    """Titles and charts of what there is.

    `per_image`, `densities`: how many images have as many objects, or objects per mm², by bins of `bin_of`.
    """
    if found.areas_um2:
        title = "Area of objects, µm²"
        yield title, _draw_bins(title, "How many objects have which area in square micrometres", found.areas_um2)
    if found.areas_px2.total() > found.areas_um2.total():  # the size of a pixel is not known of all of them
        title = "Area of objects, px²"
        yield title, _draw_bins(title, "How many objects have which area in pixels", found.areas_px2)
    if sum(per_image.values()) > 1:
        title = "Objects per image"
        yield title, _draw_bins(title, "How many images have how many objects", per_image)
    if sum(densities.values()) > 1:
        title = "Objects per mm²"
        yield title, _draw_bins(title, "How many images have which density", densities)
    if len(found.classes) > 1:
        title = "Objects by class"
        yield title, draw_bars(title, "How many objects have each class", found.classes.most_common(BARS))


def _coarsen(bins: Mapping[int, int]) -> Counter[int]:
    """Two bins in a doubling instead of eight: a chart has few columns."""
    coarse: Counter[int] = Counter()
    for place, number in bins.items():
        coarse[place * LARGER // STEPS] += number
    return coarse


def _draw_bins(title: str, description: str, bins: Mapping[int, int]) -> Markup:
    """Columns from the first to the last bin that has anything, two in a doubling."""
    coarse = _coarsen(bins)
    first, last = min(coarse), max(coarse) + 1
    values = [float(coarse[place]) for place in range(first, last)]
    apart = max(-(-(last - first) // TICKS), 1)
    ticks = [
        (float(place - first), _show(find_edge(place * STEPS // LARGER))) for place in range(first, last + 1, apart)
    ]
    return draw_columns(title, f"{description}; each second column doubles it", values, ticks)


def _show(edge: float) -> str:
    return f"{edge:,.0f}" if edge >= 10 else f"{edge:.2g}"
