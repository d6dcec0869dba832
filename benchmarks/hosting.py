"""The platform under measurement: started, given a model, and asked for a picture the way a user asks."""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from overtile import Client, JobDetail

from deploy.local.platform import WORKSPACE, Platform
from deploy.local.stack import erase
from services.trainer.export import Export
from shared.database import make_engine, make_sessions
from shared.domain import workspaces
from shared.domain.dispatch import Dispatcher
from shared.domain.imports import import_model
from shared.domain.model_files import ModelFiles
from shared.storage import Storage

MODEL = "benchmark"
OURS = ("worker-1", "api", "sweeper")
PROCESSES = (*OURS, "triton", "postgres", "valkey", "s3")


@dataclass(frozen=True)
class Run:
    """Pictures on their way through the platform."""

    seconds: float  # from submitting until the SDK's `wait` returned
    job: JobDetail
    facts: Mapping[str, Any]  # of the first image, as planned
    cpu_seconds: Mapping[str, float]  # by process

    @property
    def seconds_inside(self) -> float:
        """From the job's row to its final state, by the database's clock: without the client and its polling."""
        if self.job.finished_at is None:
            raise RuntimeError("the job has not ended")
        return (self.job.finished_at - self.job.created_at).total_seconds()


class Host:
    """A running platform that holds one model."""

    def __init__(self, platform: Platform, client: Client) -> None:
        self._platform = platform
        self._client = client

    def register(self, export: Export) -> None:
        """Import the model and wait until the worker has made it ready."""
        settings = self._platform.load_settings()
        storage, dispatcher = Storage(settings), Dispatcher.from_settings(settings)
        with make_sessions(make_engine(settings))() as session:
            workspace = workspaces.find(session, WORKSPACE)
            package = ModelFiles.of(MODEL, export.files)
            version = import_model(session, storage, dispatcher, workspace.id, package)
        self._client.jobs.wait(str(version.job_id), progress=False)

    def segment(self, pictures: Path, **parameters: Any) -> Run:
        """Upload a picture or a folder of them, then order the segmentation and wait for it; only the latter is timed.

        `parameters` are those of a segment job.
        """
        return self.run("segment", pictures, model=MODEL, **parameters)

    def run(self, kind: str, files: Path, **parameters: Any) -> Run:
        """Upload a file or a folder, then order a job of that kind and wait for it; only the latter is timed."""
        version = self._client.datasets.upload(files, name=files.stem, progress=False)
        cpu_before = self._cpu_seconds()
        begun = time.perf_counter()
        order = self._client.jobs.submit(kind=kind, dataset_version=version, **parameters)
        job = self._client.jobs.wait(order)
        seconds = time.perf_counter() - begun
        if job.state != "succeeded":
            raise RuntimeError(f"the job ended {job.state}: {job.error}")
        spent = {name: round(after - cpu_before[name], 2) for name, after in self._cpu_seconds().items()}
        return Run(seconds, job, next(iter(self._client.jobs.images(job))).facts, spent)

    def download(self, run: Run, folder: Path) -> list[Path]:
        """All that a job made, verified, in a folder."""
        return self._client.jobs.download(run.job, folder, progress=False)

    def family(self, name: str) -> list[psutil.Process]:
        """One of PROCESSES and its children, as far as they live."""
        root = psutil.Process(self._platform.process(name).pid)
        return [root, *root.children(recursive=True)]

    def _cpu_seconds(self) -> dict[str, float]:
        """User and system time of each process and its children, since they were started."""
        return {name: _cpu_of(self.family(name)) for name in PROCESSES}


@contextmanager
def run_platform(data: Path, settings: Mapping[str, str], *, workers: int = 1) -> Iterator[Host]:
    """A fresh platform in `data`, with so many workers and no trainer. `data` is erased at the end."""
    try:
        with (
            Platform(data, services={"worker": workers, "trainer": 0}, settings=settings, say=_say) as platform,
            Client(platform.url, platform.api_key) as client,
        ):
            yield Host(platform, client)
    finally:
        erase(data)


def add_setting(parser: argparse.ArgumentParser) -> None:
    """The option `--setting NAME=VALUE`, which may be given several times."""
    what = "variable of the platform"
    parser.add_argument("--setting", type=read_pair, action="append", default=[], metavar="NAME=VALUE", help=what)


def read_pair(text: str) -> tuple[str, str]:
    """`NAME=VALUE` of a command line."""
    name, _, value = text.partition("=")
    return name, value


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _cpu_of(family: Iterable[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in family)
