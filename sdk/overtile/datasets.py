"""`client.datasets`: upload files, find datasets and their versions."""

from collections.abc import Iterator, Sequence
from itertools import islice
from uuid import UUID

from overtile.errors import Conflict, NotFound, StoreError, UnexpectedAnswer
from overtile.files import HashedFile, LocalFile, Paths, collect, read_hashed, read_unchanged
from overtile.pages import walk
from overtile.parallel import in_parallel
from overtile.progress import Meter, meter
from overtile.shapes import Dataset, DatasetVersion, Page, Upload, Uploads
from overtile.transport import Transport

BATCH = 500  # files per request for presigned URLs: few enough that the last URL is used before it expires


class DatasetsPage(Page[Dataset]):
    """Datasets, newest first."""


class Datasets:
    """The datasets of the workspace."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(self, paths: Paths, *, name: str, progress: bool = True) -> DatasetVersion:
        """Uploads files into the dataset called `name` (made if new) and seals them as a version.

        `paths` is a file, a folder, several of them, or a mapping of name to path. A folder's files keep their path
        relative to it as their name; hidden ones are skipped. Files below a folder `masks` are masks, all others
        images. Bytes the platform already holds are not sent; the same files again give the same version.

        Raises LocalFileError naming a path that is missing, unreadable, ambiguous, or changed meanwhile.
        """
        files = collect(paths)
        dataset = self.ensure(name)
        with meter("hashing", shown=progress, unit="bytes") as bar:
            hashed = _hash_all(files, bar)
        with meter("uploading", shown=progress, unit="bytes") as bar:
            self._send_all(dataset, hashed, bar)
        return self._transport.post(
            f"/v1/datasets/{dataset.id}/versions",
            DatasetVersion,
            body={"files": [file.entry() for file in hashed]},
            repeatable=True,  # the same files are the same version
        )

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
        id_ = dataset.id if isinstance(dataset, Dataset) else dataset
        return self._transport.get(f"/v1/datasets/{id_}/versions/{number}", DatasetVersion)

    def _send_all(self, dataset: Dataset, files: Sequence[HashedFile], bar: Meter) -> None:
        unique = {file.sha256: file for file in files}  # equal bytes under two names travel once
        bar.expect(sum(file.bytes for file in unique.values()))

        def send(pair: tuple[HashedFile, Upload]) -> None:
            self._send(dataset, *pair, bar)

        left = iter(unique.values())
        while batch := [*islice(left, BATCH)]:
            for _ in in_parallel(send, zip(batch, self._ask(dataset, batch), strict=True)):
                pass

    def _ask(self, dataset: Dataset, files: Sequence[HashedFile]) -> Sequence[Upload]:
        answer = self._transport.post(
            f"/v1/datasets/{dataset.id}/uploads",
            Uploads,
            body={"files": [file.entry() for file in files]},
            repeatable=True,  # it only signs URLs
        )
        if [upload.sha256 for upload in answer.files] != [file.sha256 for file in files]:
            raise UnexpectedAnswer("the API answered for other files than it was asked about")
        return answer.files

    def _send(self, dataset: Dataset, file: HashedFile, upload: Upload, bar: Meter) -> None:
        try:
            self._put(file, upload, bar)
        except StoreError as error:
            if not error.expired:
                raise
            [fresh] = self._ask(dataset, [file])
            self._put(file, fresh, bar)

    def _put(self, file: HashedFile, upload: Upload, bar: Meter) -> None:
        if upload.url is None:
            bar.advance(file.bytes)
            return

        part = bar.part()

        def body() -> Iterator[bytes]:
            part.restart()
            for chunk in read_unchanged(file):
                yield chunk
                part.advance(len(chunk))

        self._transport.put(upload.url, body, size=file.bytes)


def _hash_all(files: Sequence[LocalFile], bar: Meter) -> Sequence[HashedFile]:
    bar.expect(sum(file.size for file in files))
    return list(in_parallel(lambda file: read_hashed(file, bar.advance), files))
