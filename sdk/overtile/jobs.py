"""`client.jobs`: order work, wait for it, fetch what it made."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

from overtile.downloads import Download, Remote
from overtile.errors import JobFailed
from overtile.files import AnyPath
from overtile.pages import walk
from overtile.parallel import in_parallel
from overtile.progress import meter, say
from overtile.shapes import Artifact, Dataset, DatasetVersion, Job, JobDetail, JobImage, Page
from overtile.transport import Transport
from overtile.waiting import poll, show

AnyJob = Job | UUID | str
FilePaths = list[Path]  # named here because `list` is a method below


class JobsPage(Page[Job]):
    """Jobs, newest first."""


class JobImagesPage(Page[JobImage]):
    """Images in the order of the dataset version."""


class ArtifactsPage(Page[Artifact]):
    """Artifacts in the order they were made."""


class Jobs:
    """The jobs of the workspace."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def submit(
        self,
        *,
        kind: str,
        dataset: Dataset | str | None = None,
        dataset_version: DatasetVersion | UUID | str | None = None,
        model: str | None = None,
        idempotency_key: str | None = None,
        **parameters: object,
    ) -> Job:
        """Orders a job; the work happens later, on the platform.

        The images are those of either `dataset` (`name` for its newest version, `name@3`) or `dataset_version`.
        kind "segment": `model` is `name`, `name@3` or `name@alias`; takes `threshold` (between 0 and 1), which is by
        default the one the model recommends; `test_time_augmentation` ("none", "flips", "all"); `empty_tiles` ("auto",
        "skip", "predict"): whether a large image is looked at where it shows no tissue; `outputs`, what is made of each
        image (mask, overlay, ome_zarr, label_image, ome_tiff, table, geojson, coco, contact_sheet); `objects`, how they
        are told apart.
        kind "evaluate": the same images need masks; takes `model`, and `compare_with` for a second one; `split`.
        kind "train": `model` names the model to register; takes `network`, `epochs`, `crop` (px), `learning_rate` and
        the further fields of /docs. A `recipe` (see `client.recipes`) fills all that are not given, `model` included.
        kind "ingest": takes `layout`, `masks` and `splits`, each told from the files if left out.
        kind "preprocess": takes `steps`, and `into`, the dataset that gets the new version.

        The same `idempotency_key` with the same order gives the same job; without one, each call is a job of its own.
        Raises Invalid for an order that makes no sense, Conflict if the key stands for another order.
        """
        named = {
            "dataset": dataset.name if isinstance(dataset, Dataset) else dataset,
            "dataset_version": dataset_version.id if isinstance(dataset_version, DatasetVersion) else dataset_version,
            "model": model,
        }
        given = {name: value for name, value in named.items() if value is not None}
        return self._transport.post(
            "/v1/jobs",
            Job,
            body={"kind": kind, **given, **parameters},
            idempotency_key=idempotency_key or str(uuid4()),
        )

    def get(self, job: AnyJob, *, wait: float = 0) -> JobDetail:
        """The job as it stands now, or at its end if that comes within `wait` seconds (30 at most). Raises NotFound."""
        return self._transport.get(_path(job), JobDetail, query={"wait": wait} if wait else None)

    def list(self, state: str | None = None) -> Iterator[Job]:
        """Every job, or those in one state; the newest first."""
        return walk(self._transport, "/v1/jobs", JobsPage, query={"state": state})

    def images(self, job: AnyJob) -> Iterator[JobImage]:
        """The job's images, each with its state and, if it failed, its `error`."""
        return walk(self._transport, f"{_path(job)}/images", JobImagesPage)

    def artifacts(self, job: AnyJob) -> Iterator[Artifact]:
        """What the job made so far. Their URLs work for a limited time."""
        return walk(self._transport, f"{_path(job)}/artifacts", ArtifactsPage)

    def cancel(self, job: AnyJob) -> Job:
        """Asks the workers to stop; what is already made stays."""
        return self._transport.post(f"{_path(job)}/cancel", Job, repeatable=True)

    def wait(self, job: AnyJob, *, timeout: float | None = None, progress: bool = True) -> JobDetail:
        """Returns the job once it is succeeded, partial or cancelled. `timeout` in seconds.

        Of a partial job the first cause is printed; `images` tells which ones failed, and why.
        Raises JobFailed with the cause and every failed image, WaitTimeout if the time is over first.
        """
        title = f"{job.kind} job" if isinstance(job, Job) else "job"
        with meter(title, shown=progress, unit="blocks") as bar:
            for current in poll(lambda wait: self.get(job, wait=wait), self._transport.backoff.clock, timeout=timeout):
                show(current, bar)
        if progress and current.state == "partial" and current.error is not None:
            say(current.error.detail)
        if current.state == "failed":
            raise JobFailed(current, [image for image in self.images(job) if image.error or image.state == "failed"])
        return current

    def download(
        self,
        job: AnyJob,
        to: AnyPath = "out",
        *,
        kinds: str | Iterable[str] | None = None,
        progress: bool = True,
    ) -> FilePaths:
        """Fetches the job's artifacts, or those of some kinds ("mask", "overlay", …), into a folder; returns the paths.

        Thumbnails of a dataset's images come only if they are asked for.
        Each file is verified by its SHA-256 and appears under its name only when it is whole. Files that are already
        there and right are left alone, so a broken download is resumed by repeating the call.
        Raises UnsafeName for a name that leaves the folder, ChecksumMismatch, LocalFileError if the disk refuses.
        """
        wanted = {kinds} if isinstance(kinds, str) else None if kinds is None else set(kinds)
        chosen = (artifact for artifact in self.artifacts(job) if _is_wanted(artifact, wanted))
        with meter("downloading", shown=progress, unit="bytes") as bar:
            download = Download(self._transport, Path(to), bar, renew=lambda old: self._renewed(job, old))
            return [*in_parallel(download.fetch, chosen)]

    def _renewed(self, job: AnyJob, old: Remote) -> Remote:
        """The artifact with a URL that works again; the API gives new ones with each listing."""
        return next((artifact for artifact in self.artifacts(job) if artifact.name == old.name), old)


def _is_wanted(artifact: Artifact, wanted: set[str] | None) -> bool:
    return artifact.kind in wanted if wanted is not None else artifact.kind != "thumbnail"


def _path(job: AnyJob) -> str:
    return f"/v1/jobs/{job.id if isinstance(job, Job) else job}"
