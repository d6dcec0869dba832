"""`client.datasets`: upload files, find datasets and their versions."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

from overtile.downloads import Download, Remote
from overtile.errors import Conflict, Invalid, NotFound
from overtile.files import AnyPath, HashedFile, LocalFile, Paths, collect, read_hashed
from overtile.pages import walk
from overtile.parallel import in_parallel
from overtile.progress import Meter, meter
from overtile.shapes import (
    Dataset,
    DatasetFile,
    DatasetImage,
    DatasetVersion,
    Difference,
    Page,
    Source,
    Sources,
)
from overtile.transport import Transport
from overtile.uploads import Uploader

FilePaths = list[Path]  # named here because `list` is a method below


class DatasetsPage(Page[Dataset]):
    """Datasets, newest first."""


class VersionsPage(Page[DatasetVersion]):
    """Versions, newest first."""


class FilesPage(Page[DatasetFile]):
    """Files, in their version's order."""


class ImagesPage(Page[DatasetImage]):
    """Images, in their version's order."""


class Datasets:
    """The datasets of the workspace."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(self, paths: Paths, *, name: str, parent: int | None = None, progress: bool = True) -> DatasetVersion:
        """Uploads files into the dataset called `name` (made if new) and seals them as a version.

        `paths` is a file, a folder, several of them, or a mapping of name to path. A folder's files keep their path
        relative to it as their name; hidden ones are skipped. Bytes the platform already holds are not sent, so an
        upload that broke off goes on where it was; the same files again give the same version. `parent` is the number
        of the version this one goes on from, the newest by default.

        Raises LocalFileError naming a path that is missing, unreadable, ambiguous, or changed meanwhile.
        """
        files = collect(paths)
        dataset = self.ensure(name)
        with meter("hashing", shown=progress, unit="bytes") as bar:
            hashed = _hash_all(files, bar)
        self._send_all(dataset, hashed, progress=progress)
        try:
            return self._seal(dataset, hashed, parent)
        except Invalid:  # of an upload that took days, the first files may have been taken for abandoned
            self._send_all(dataset, hashed, progress=False)
            return self._seal(dataset, hashed, parent)

    def register(self, source: str, path: str = "", *, name: str, parent: int | None = None) -> DatasetVersion:
        """Makes what lies below `path` of a source a version of the dataset called `name`, without copying it.

        Sources are places in the lab's own buckets that an administrator has allowed; `sources` lists them.
        """
        dataset = self.ensure(name)
        return self._transport.post(
            f"/v1/datasets/{dataset.id}/versions",
            DatasetVersion,
            body={"source": {"name": source, "path": path}, "parent": parent},
            repeatable=True,
        )

    def sources(self) -> list[Source]:
        """The places in the lab's own buckets that files may be registered in."""
        return self._transport.get("/v1/sources", Sources).items

    def ensure(self, name: str) -> Dataset:
        """The dataset of that name, made if there is none."""
        try:
            # Repeatable because a first attempt that did arrive shows as a conflict, and that is answered below.
            return self._transport.post("/v1/datasets", Dataset, body={"name": name}, repeatable=True)
        except Conflict:
            return self.find(name)

    def find(self, name: str) -> Dataset:
        """The dataset of that name. Raises NotFound."""
        for dataset in walk(self._transport, "/v1/datasets", DatasetsPage, query={"name": name}):
            if dataset.name == name:
                return dataset
        raise NotFound(f"no dataset is called {name!r}", status=404)

    def get(self, dataset: UUID | str) -> Dataset:
        """The dataset with that id. Raises NotFound."""
        return self._transport.get(f"/v1/datasets/{dataset}", Dataset)

    def list(self) -> Iterator[Dataset]:
        """Every dataset of the workspace."""
        return walk(self._transport, "/v1/datasets", DatasetsPage)

    def version(self, dataset: Dataset | UUID | str, number: int) -> DatasetVersion:
        """A version by its number. Raises NotFound."""
        return self._transport.get(f"{_path(dataset)}/versions/{number}", DatasetVersion)

    def versions(self, dataset: Dataset | UUID | str) -> Iterator[DatasetVersion]:
        """Every version of the dataset, the newest first."""
        return walk(self._transport, f"{_path(dataset)}/versions", VersionsPage)

    def files(self, version: DatasetVersion, *, role: str | None = None) -> Iterator[DatasetFile]:
        """The files of a version; only the images, say, with `role="image"`."""
        path = f"/v1/datasets/{version.dataset_id}/versions/{version.number}/files"
        return walk(self._transport, path, FilesPage, query={"role": role})

    def images(self, version: DatasetVersion, *, state: str | None = None) -> Iterator[DatasetImage]:
        """The manifest of a version; only what ingest refused with `state="rejected"`."""
        path = f"/v1/datasets/{version.dataset_id}/versions/{version.number}/images"
        return walk(self._transport, path, ImagesPage, query={"state": state})

    def difference(self, old: DatasetVersion, new: DatasetVersion) -> Difference:
        """What became of the files of `old` in `new`, which may be a version of another dataset."""
        path = f"/v1/datasets/{old.dataset_id}/versions/{old.number}/difference"
        return self._transport.get(path, Difference, {"to": new.number, "of": str(new.dataset_id)})

    def download(
        self, version: DatasetVersion, to: AnyPath = "out", *, role: str | None = None, progress: bool = True
    ) -> FilePaths:
        """Fetches the files of a version, or those of a role, into a folder; returns the paths.

        Verified and resumed as `client.jobs.download` does it.
        """

        def renew(old: Remote) -> Remote:
            return next((file for file in self.files(version, role=role) if file.name == old.name), old)

        with meter("downloading", shown=progress, unit="bytes") as bar:
            download = Download(self._transport, Path(to), bar, renew=renew)
            return [*in_parallel(download.fetch, self.files(version, role=role))]

    def delete_version(self, version: DatasetVersion) -> None:
        """Deletes a version. Raises Conflict while a job uses it."""
        self._transport.remove(f"/v1/datasets/{version.dataset_id}/versions/{version.number}")

    def delete(self, dataset: Dataset | UUID | str) -> None:
        """Deletes a dataset with all its versions. Raises Conflict while a job uses one of them."""
        self._transport.remove(_path(dataset))

    def _send_all(self, dataset: Dataset, files: Sequence[HashedFile], *, progress: bool) -> None:
        with meter("uploading", shown=progress, unit="bytes") as bar:
            Uploader(self._transport, dataset, bar).send_all(files)

    def _seal(self, dataset: Dataset, files: Sequence[HashedFile], parent: int | None) -> DatasetVersion:
        return self._transport.post(
            f"/v1/datasets/{dataset.id}/versions",
            DatasetVersion,
            body={"files": [file.entry() for file in files], "parent": parent},
            repeatable=True,  # the same files are the same version
        )


def _path(dataset: Dataset | UUID | str) -> str:
    return f"/v1/datasets/{dataset.id if isinstance(dataset, Dataset) else dataset}"


def _hash_all(files: Sequence[LocalFile], bar: Meter) -> Sequence[HashedFile]:
    bar.expect(sum(file.size for file in files))
    return list(in_parallel(lambda file: read_hashed(file, bar.advance), files))
