"""The first minutes: segment with the model in the box, train a small one, compare both, show what came out.

    python -m deploy.local.demo [--image PATH] [--data .overtile] [--out overtile-demo]

Starts the platform, then uses nothing but the SDK. A second run finds the trained model and takes seconds.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from overtile import Client, Conflict, DatasetVersion, Job, JobDetail, OvertileError
from rich.console import Console
from rich.table import Table

from deploy.local import demo_images
from deploy.local.box import import_boxed
from deploy.local.errors import LocalStackError
from deploy.local.platform import Platform

MODEL = "nuclei-starter"
# Kinds of artifacts to fetch of the segmentation.
KINDS = ("overlay", "table", "geojson", "mask", "report", "summary", "manifest")
SHOWN = {  # by the ends of their names
    "overlay": ".overlay.png",
    "objects": ".objects.csv",
    "summary": "report.html",
    "manifest": "manifest.json",
}
LESSON = "demo-nuclei"  # what the demo trains
IMAGES = 30  # drawn for the lesson
TESTS = 8  # drawn for the comparison
SIDE = 128  # px
SETTINGS: dict[str, Any] = {  # on top of the recipe: a minute on two cores
    "network": {"widths": [8, 16, 32, 64]},
    "masks": {"kind": "instances"},
    "split": {"by": "ratio", "fraction": 0.2},
    "crop": SIDE,
    "batch_size": 8,
    "epochs": 15,
}
INGESTED = "dataset_report.html"
CURVES = "training/curves.png"

console = Console()


class DemoError(Exception):
    """The demo cannot go on; the text says why."""


@dataclass
class Stopwatch:
    """Seconds per stage, in the order of the stages."""

    rows: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Times the block under it."""
        console.print(f"• {stage}", highlight=False)
        started = time.monotonic()
        yield
        self.rows.append((stage, time.monotonic() - started))

    def add_stages(self, job: JobDetail) -> None:
        """What the platform says about where the last stage's seconds went."""
        self.rows.extend((f"  · {stage.stage}", stage.wall_seconds) for stage in job.stages)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 1 if there is no result to show."""
    options = _parse(arguments)
    try:
        run(options.image, data=options.data, out=options.out)
    except (DemoError, OvertileError, LocalStackError, OSError) as error:
        _say(f"The demo failed: {error}", Console(stderr=True, style="red"))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def run(image: Path | None, *, data: Path, out: Path) -> None:
    """The whole demo. Raises DemoError, or the SDK's and the platform's own errors."""
    watch = Stopwatch()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="overtile-demo-")))
        image = _checked(image) if image is not None else demo_images.draw_field(folder)
        with watch.time("start the platform"):
            platform = stack.enter_context(Platform(data))
        stack.callback(console.print, "• stop the platform; `make up` runs it again, with all that was made")
        client = stack.enter_context(Client(platform.url, platform.api_key))
        with watch.time("load the model in the box"):
            load_boxed(client, platform)
        results = segment(client, image, out=out, watch=watch)
        results += train(client, out=out, watch=watch)
        results += compare(client, out=out, watch=watch)
        _report(watch, results, platform.url)


def load_boxed(client: Client, platform: Platform) -> None:
    """Waits until a worker has seen the models answer."""
    for version in import_boxed(platform):
        _wait(client, client.jobs.get(str(version.job_id)))


def train(client: Client, *, out: Path, watch: Stopwatch) -> list[tuple[str, Path]]:
    """A training as a user would order it, on nuclei that we draw. What it shows: kinds and paths."""
    with watch.time("draw and upload images to learn from"), TemporaryDirectory(prefix="overtile-demo-") as folder:
        files = demo_images.draw(Path(folder), count=IMAGES, side=SIDE)
        images = client.datasets.upload(files, name="demo-training")
    with watch.time("look into them: an ingest"):
        ingest = client.jobs.submit(kind="ingest", dataset_version=images)
        _wait(client, ingest)
        client.jobs.download(ingest, out / LESSON, kinds=["report"])
    with watch.time("train a model on them (about a minute; a second run finds it)"):
        job = _order_lesson(client, images)
        ended = _wait(client, job)
    watch.add_stages(ended)
    with watch.time("download its reports"):
        client.jobs.download(job, out / LESSON, kinds=["report"])
    panels = sorted((out / LESSON / "training" / "panels").glob("*.png"))
    return [("dataset", out / LESSON / INGESTED), ("curves", out / LESSON / CURVES), ("panel", panels[-1])]


def compare(client: Client, *, out: Path, watch: Stopwatch) -> list[tuple[str, Path]]:
    """Both models against masks that neither has learnt from. What it shows: kinds and paths."""
    with watch.time("evaluate it beside the one in the box"), TemporaryDirectory(prefix="overtile-demo-") as folder:
        files = demo_images.draw(Path(folder), count=TESTS, side=2 * SIDE, first=IMAGES)
        images = client.datasets.upload(files, name="demo-test")
        _wait(client, client.jobs.submit(kind="ingest", dataset_version=images))
        job = client.jobs.submit(kind="evaluate", dataset_version=images, model=LESSON, compare_with=MODEL)
        _wait(client, job)
        client.jobs.download(job, out / "evaluation")
    return [("scores", out / "evaluation" / "evaluation.html")]


def _order_lesson(client: Client, images: DatasetVersion) -> Job:
    """The training: the one there is, unless it came to nothing or was ordered otherwise."""
    order: dict[str, Any] = {"kind": "train", "recipe": "nuclei-starter", "dataset_version": images, "model": LESSON}
    try:
        job = client.jobs.submit(**order, **SETTINGS, idempotency_key=f"demo {images.id}")
    except Conflict:
        return client.jobs.submit(**order, **SETTINGS)
    return client.jobs.submit(**order, **SETTINGS) if job.state in ("failed", "cancelled") else job


def segment(client: Client, image: Path, *, out: Path, watch: Stopwatch) -> list[tuple[str, Path]]:
    """Segments the image and fetches the results into `out`. What of them is shown: kinds and paths."""
    with watch.time(f"upload {image.name}"):
        images = client.datasets.upload(image, name="demo-image")
    with watch.time("segment"):
        outputs = ["overlay", "table", "geojson", "mask"]
        job = client.jobs.submit(kind="segment", dataset_version=images, model=MODEL, outputs=outputs)
        ended = _wait(client, job)
    watch.add_stages(ended)
    with watch.time("download"):
        paths = client.jobs.download(job, out / image.name, kinds=KINDS)
    return [(kind, path) for kind, end in SHOWN.items() for path in paths if path.name.endswith(end)]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.demo", description="Segment, train, look.")
    parser.add_argument("--image", type=Path, help="image to segment (default: nuclei that are drawn)")
    parser.add_argument("--data", type=Path, default=Path(".overtile"), help="folder of the platform (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("overtile-demo"), help="folder for results (%(default)s)")
    return parser.parse_args(arguments)


def _checked(image: Path) -> Path:
    """Known before anything is started, rather than minutes later."""
    if not image.is_file():
        raise DemoError(f"{image} is not a file" if image.exists() else f"{image} does not exist")
    return image


def _wait(client: Client, job: Job) -> JobDetail:
    """Waits for the whole success of the job. Raises JobFailed or DemoError."""
    ended = client.jobs.wait(job)
    if ended.state != "succeeded":
        cause = f": {ended.error.detail}" if ended.error else ""
        raise DemoError(f"the {job.kind} job {job.id} ended as {ended.state}{cause}")
    return ended


def _report(watch: Stopwatch, results: Sequence[tuple[str, Path]], url: str) -> None:
    table = Table("stage", "seconds", title="Where the time went", title_justify="left")
    table.columns[1].justify = "right"
    for stage, seconds in watch.rows:
        table.add_row(stage, f"{seconds:.1f}")
    console.print(table)
    for kind, path in results:
        _say(f"{kind:9} {path}")
    _say(f'{"API":9} {url} (once `make up` runs; the README\'s "Using it" goes on from there)')


def _say(text: str, where: Console = console) -> None:
    """Unbroken, so that a path can be copied."""
    where.print(text, soft_wrap=True, markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
