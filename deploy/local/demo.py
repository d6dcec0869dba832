"""The first five minutes: train a small model, segment an image with it, and show where the results are.

    python -m deploy.local.demo [--image PATH] [--data .overtile] [--out overtile-demo]

Starts the platform, then uses nothing but the SDK. A second run finds the trained model and takes seconds.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from overtile import Client, DatasetVersion, Job, JobDetail, ModelVersion, NotFound, OvertileError
from rich.console import Console
from rich.table import Table

from deploy.local import demo_images
from deploy.local.errors import LocalStackError
from deploy.local.platform import Platform

MODEL = "demo-nuclei"
SHOWN = ("mask", "overlay", "manifest")  # kinds of artifacts to fetch

console = Console()


@dataclass(frozen=True)
class Preset:
    """The training: small enough for two cores, good enough to look at."""

    bright: int = 24  # real images with stained tissue on a bright background
    dark: int = 24  # real images of fluorescence
    drawn: int = 48  # images that we draw
    drawn_side: int = 256  # px
    widths: tuple[int, ...] = (16, 32, 64, 128)
    crop: int = 128  # px
    batch_size: int = 16
    epochs: int = 22
    learning_rate: float = 3e-3
    seed: int = 0

    def settings(self) -> dict[str, Any]:
        """The part of the order that decides what is learnt from given images."""
        return {
            "network": {"name": "unet", "widths": list(self.widths), "channels": 3, "classes": 1},
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "crop": self.crop,
            "learning_rate": self.learning_rate,
            "seed": self.seed,
        }


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
    image = _checked(image or _find_sample_image())
    watch = Stopwatch()
    with ExitStack() as stack:
        stack.callback(console.print, "stopped; `make up` runs the platform again, with the model that was trained")
        with watch.time("start the platform"):
            platform = stack.enter_context(Platform(data))
        client = stack.enter_context(Client(platform.url, platform.api_key))
        model = obtain_model(client, Preset(), watch)
        results = segment(client, image, model, out=out, watch=watch)
        _report(watch, results, platform.url)
        console.print("• stop the platform")


def obtain_model(client: Client, preset: Preset, watch: Stopwatch) -> ModelVersion:
    """The demo's model: the one there is, if it was trained on these images with these settings, else a new one."""
    with watch.time("gather and upload the training images"):
        images = _upload_training_images(client, preset)
    version = find_trained(client, images, preset)
    if version is not None:
        console.print(f"  reusing {MODEL}@{version.number}, trained on the same images with the same settings")
        return version
    with watch.time("train (once; two to five minutes on two cores)"):
        job = client.jobs.submit(kind="train", dataset_version=images, model=MODEL, **preset.settings())
        ended = _wait(client, job)
    watch.add_stages(ended)
    version = find_trained(client, images, preset)
    if version is None:
        raise DemoError(f"the training succeeded, but {MODEL} has no version that is ready; see job {job.id}")
    return version


def find_trained(client: Client, images: DatasetVersion, preset: Preset) -> ModelVersion | None:
    """The newest ready version that a training on `images` with the preset's settings made."""
    try:
        ready = [version for version in client.models.get(MODEL).versions if version.state == "ready"]
    except NotFound:
        return None
    for version in sorted(ready, key=lambda version: version.number, reverse=True):
        if version.job_id is not None and _ordered(client.jobs.get(version.job_id), images, preset):
            return version
    return None


def segment(client: Client, image: Path, model: ModelVersion, *, out: Path, watch: Stopwatch) -> list[tuple[str, Path]]:
    """Segments the image and fetches the results into `out`. Their kinds and paths, in the order of `SHOWN`."""
    with watch.time(f"upload {image.name}"):
        images = client.datasets.upload(image, name="demo-image")
    with watch.time("segment"):
        job = client.jobs.submit(kind="segment", dataset_version=images, model=f"{MODEL}@{model.number}")
        ended = _wait(client, job)
    watch.add_stages(ended)
    with watch.time("download"):
        paths = client.jobs.download(job, out / image.name, kinds=SHOWN)
    kinds = [artifact.kind for artifact in client.jobs.artifacts(job) if artifact.kind in SHOWN]
    return sorted(zip(kinds, paths, strict=True), key=lambda result: SHOWN.index(result[0]))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.demo", description="Train, segment, look.")
    parser.add_argument("--image", type=Path, help="image to segment (default: scikit-image's ihc.png)")
    parser.add_argument("--data", type=Path, default=Path(".overtile"), help="folder of the platform (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("overtile-demo"), help="folder for results (%(default)s)")
    return parser.parse_args(arguments)


def _checked(image: Path) -> Path:
    """Known before anything is started, rather than minutes later."""
    if not image.is_file():
        raise DemoError(f"{image} is not a file" if image.exists() else f"{image} does not exist")
    return image


def _find_sample_image() -> Path:
    """Found without importing scikit-image, which would take a second; the file is part of its wheel."""
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        raise DemoError("scikit-image is not installed, so there is no image to segment; give one with --image")
    return Path(package.origin).parent / "data" / "ihc.png"


def _upload_training_images(client: Client, preset: Preset) -> DatasetVersion:
    with TemporaryDirectory(prefix="overtile-demo-") as folder:
        images = demo_images.gather(
            Path(folder), bright=preset.bright, dark=preset.dark, drawn=preset.drawn, side=preset.drawn_side
        )
        return client.datasets.upload(images, name="demo-training")


def _ordered(job: Job, images: DatasetVersion, preset: Preset) -> bool:
    """Whether the job was ordered on these images with these settings."""
    on_these = job.spec.get("dataset_version", {}).get("id") == str(images.id)
    return on_these and _includes(job.spec.get("parameters", {}), preset.settings())


def _includes(stored: Mapping[str, object], asked: Mapping[str, object]) -> bool:
    """Whether `stored` says the same as `asked`; it may say more, such as settings left at their defaults."""
    for name, value in asked.items():
        found = stored.get(name)
        if isinstance(value, Mapping) and isinstance(found, Mapping):
            if not _includes(found, value):
                return False
        elif found != value:
            return False
    return True


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
