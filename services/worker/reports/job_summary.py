"""The report of a segment job as one HTML page: it opens without a network, and shows a bounded number of images."""

import io
import math
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from services.worker.reports.job_charts import draw_job_charts
from services.worker.reports.job_table import Row
from shared.examination.thumbnails import SIDE, encode_thumbnail
from shared.imaging.objects.summary import STEPS, ObjectSummary
from shared.tables.base import Json

LISTED = 200  # images of a kind that the page lists; the tables have all
PICTURED = 6  # of each kind of flag with a picture, and images without one

TITLES = {
    "out_of_focus": "Out of focus",
    "saturated": "Overexposed",
    "unfamiliar": "Unlike what the model learnt from",
    "low_confidence": "The model is unsure",
}

_PAGES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
_PAGES.filters["quote"] = quote


@dataclass(frozen=True)
class Ordered:
    """What the job was ordered to do."""

    job: str
    model: str  # name@3
    digest: str  # sha256 of its graph
    dataset: str  # name@7
    parameters: Mapping[str, Any]
    created: str  # date and time of the order, ISO 8601

    @property
    def has_overlays(self) -> bool:
        """Whether overlays are among the results; otherwise pictures of them stand on the page alone."""
        return "overlay" in self.parameters.get("outputs", ())


@dataclass(frozen=True)
class Flagged:
    """An image with a flag."""

    id: str
    name: str
    text: str


@dataclass
class JobTally:
    """What the page says about the images, gathered row by row: any number takes the memory of a few hundred."""

    states: Counter[str] = field(default_factory=Counter)
    objects: ObjectSummary = field(default_factory=ObjectSummary)
    counted: int = 0  # images whose objects were counted
    pixels: int = 0  # of images whose objects were counted
    millimetres: float = 0.0  # mm², of these the ones with a known size
    scaled: int = 0  # objects in them
    per_image: Counter[int] = field(default_factory=Counter)  # images by bins of how many objects they have
    empty: int = 0  # images without objects
    densities: Counter[int] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    flagged: dict[str, list[Flagged]] = field(default_factory=lambda: defaultdict(list))
    warned: int = 0  # images with flags
    untold: int = 0  # images of which nobody can say whether they are like what the model learnt from
    failed: list[tuple[str, str]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)  # ids of the first images that are done

    def add(self, id_: str, row: Row, result: Mapping[str, Any]) -> None:
        """Count an image: its row of the table, and what its own row keeps."""
        name, state = str(row["name"]), str(row["state"])
        self.states[state] += 1
        if len(self.rows) < LISTED:
            self.rows.append(row)
        if state == "failed" and len(self.failed) < LISTED:
            self.failed.append((name, str(row.get("error") or "no reason was given")))
        if state != "done":
            return
        if len(self.shown) < PICTURED:
            self.shown.append(id_)
        if result.get("objects"):
            self._add_objects(ObjectSummary.read(result["objects"]), result["objects"], row)
        self._add_quality(id_, name, result.get("quality"))

    def _add_objects(self, found: ObjectSummary, described: Mapping[str, Any], row: Row) -> None:
        self.objects.join(found)
        self.counted += 1
        self.pixels += described["area_px2"]
        if found.count:
            self.per_image[_bin_of(found.count)] += 1
        else:
            self.empty += 1
        density, mpp = described.get("per_mm2"), row.get("um_per_px")
        if density is None or not isinstance(mpp, float | int):
            return
        self.millimetres += described["area_px2"] * mpp**2 * 1e-6
        self.scaled += found.count
        if density > 0:
            self.densities[_bin_of(density)] += 1

    def _add_quality(self, id_: str, name: str, quality: Mapping[str, Any] | None) -> None:
        if quality is None:
            return
        self.warned += bool(quality["flags"])
        self.untold += quality["learnt_from"] is None
        for flag in quality["flags"]:
            self.flags[flag["code"]] += 1
            if len(self.flagged[flag["code"]]) < LISTED:
                self.flagged[flag["code"]].append(Flagged(id_, name, flag["text"]))

    @property
    def density(self) -> float | None:
        """Objects per mm² of all images whose pixels have a known size, together."""
        return self.scaled / self.millimetres if self.millimetres else None

    def list_shown(self) -> list[str]:
        """Ids of the images whose pictures the page shows."""
        flagged = [each.id for images in self.flagged.values() for each in images[:PICTURED]]
        return list(dict.fromkeys([*flagged, *self.shown]))

    def describe(self) -> Json:
        """For the block's row."""
        return {"images": dict(self.states), "objects": self.objects.count, "flags": dict(self.flags)}


def draw_summary(ordered: Ordered, tally: JobTally, pictures: Mapping[str, bytes]) -> bytes:
    """The page, UTF-8. Names are users' text: they are shown, never obeyed. `pictures`: PNG, by the image's id."""
    embedded = {id_: embed(png) for id_, png in pictures.items()}
    found = tally.objects
    page = _PAGES.get_template("job.html").render(
        ordered=ordered,
        tally=tally,
        found=found,
        images=sum(tally.states.values()),
        done=tally.states["done"],
        charts=list(draw_job_charts(found, tally.per_image, tally.densities)),
        flags=[(TITLES.get(code, code), count, tally.flagged[code]) for code, count in tally.flags.most_common()],
        pictures=embedded,
        areas=_describe_areas(found),
        listed=LISTED,
        pictured=PICTURED,
    )
    return page.encode("utf-8", "backslashreplace")


def embed(png: bytes) -> str:
    """A picture as a data URI of a JPEG no larger than a thumbnail."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        small = image.convert("RGB")
        small.thumbnail((SIDE, SIDE))
    return f"data:image/jpeg;base64,{b64encode(encode_thumbnail(np.asarray(small))).decode()}"


def _describe_areas(found: ObjectSummary) -> Sequence[tuple[str, float, float, float]]:
    """Unit, 5 % quantile, median, 95 % quantile, of what is known."""
    described = []
    for unit, name in (("um2", "µm²"), ("px2", "px²")):
        low, middle, high = (found.quantile(share, unit=unit) for share in (0.05, 0.5, 0.95))
        if low is not None and middle is not None and high is not None:
            described.append((name, low, middle, high))
    return described


def _bin_of(value: float) -> int:
    return math.floor(math.log2(value) * STEPS)
