"""Files on their way to the object store: what it holds is not sent, large files go in parts, several at once."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from threading import Lock

from overtile.errors import Conflict, StoreError, UnexpectedAnswer
from overtile.files import LEAF, HashedFile, read_unchanged
from overtile.parallel import in_parallel
from overtile.progress import Meter
from overtile.shapes import Dataset, FilePart, Multipart, Stored, Upload, Uploads
from overtile.transport import Transport

BATCH = 500  # files per request for presigned URLs: few enough that the last URL is used before it expires
LARGE_AT_ONCE = 2  # files that go in parts
PARTS_AT_ONCE = 4  # of each of them: a store may have to hold what arrives before its turn
ROUNDS = 8  # without a single part getting through, before a large file is given up
PAUSE = 1.0  # seconds, while another client completes the same file
FORGOTTEN = 404  # the store's answer to a part of an upload that is over, or that it lost


class Uploader:
    """Sends files of one dataset. `bar` counts their bytes, also those that were there already."""

    def __init__(self, transport: Transport, dataset: Dataset, bar: Meter) -> None:
        self._transport = transport
        self._path = f"/v1/datasets/{dataset.id}/uploads"
        self._bar = bar

    def send_all(self, files: Sequence[HashedFile]) -> None:
        """Sends what the store lacks. Raises LocalFileError for a file that is not any more what it was."""
        unique = {file.sha256: file for file in files}  # equal bytes under two names travel once
        self._bar.expect(sum(file.bytes for file in unique.values()))
        left = iter(unique.values())
        while batch := [*islice(left, BATCH)]:
            pairs = list(zip(batch, self._ask(batch), strict=True))
            small = [(file, upload) for file, upload in pairs if upload.multipart is None]
            large = [(file, upload) for file, upload in pairs if upload.multipart is not None]
            for _ in in_parallel(self._send, small):
                pass
            for _ in in_parallel(self._send_parts, large, workers=LARGE_AT_ONCE):
                pass

    def _ask(self, files: Sequence[HashedFile]) -> Sequence[Upload]:
        answer = self._transport.post(
            self._path,
            Uploads,
            body={"files": [file.entry() for file in files]},
            repeatable=True,  # twice is as once
        )
        if [upload.sha256 for upload in answer.files] != [file.sha256 for file in files]:
            raise UnexpectedAnswer("the API answered for other files than it was asked about")
        return answer.files

    def _send(self, pair: tuple[HashedFile, Upload]) -> None:
        file, upload = pair
        share = _Share(self._bar)
        try:
            self._put(file, upload.url, share)
        except StoreError as error:
            if not error.expired:
                raise
            [fresh] = self._ask([file])
            self._put(file, fresh.url, share)

    def _put(self, file: HashedFile, url: str | None, share: "_Share") -> None:
        if url is None:
            share.place(file.bytes)
        else:
            self._transport.put(url, _reading(file, 0, file.bytes, share), size=file.bytes)

    def _send_parts(self, pair: tuple[HashedFile, Upload]) -> None:
        """Until the store holds the file: sends the parts that it lacks, then asks what it lacks now."""
        file, upload = pair
        share = _Share(self._bar)
        fruitless = 0
        while upload.multipart is not None:
            share.place(min(upload.multipart.held * upload.multipart.part_bytes, file.bytes))
            done, failure = self._send_some(file, upload.multipart, share)
            if failure is None and self._complete(file, upload.multipart, done):
                break
            fruitless = 0 if done else fruitless + 1
            if fruitless == ROUNDS:
                raise failure or UnexpectedAnswer(f"the API does not say where to send what is missing of {file.name}")
            [upload] = self._ask([file])
        share.place(file.bytes)

    def _send_some(self, file: HashedFile, parts: Multipart, share: "_Share") -> tuple[int, StoreError | None]:
        """How many of the parts got through, and what kept the others back if asking anew may help."""
        if parts.part_bytes % LEAF:
            raise UnexpectedAnswer(f"parts of {parts.part_bytes} bytes cannot be checked; is the client too old?")

        def send(part: FilePart) -> None:
            start = (part.number - 1) * parts.part_bytes
            end = min(start + parts.part_bytes, file.bytes)
            self._transport.put(part.url, _reading(file, start, end, share), size=end - start)

        done = 0
        try:
            for _ in in_parallel(send, parts.parts, workers=PARTS_AT_ONCE):
                done += 1
        except StoreError as error:
            if not (error.expired or error.status == FORGOTTEN):
                raise
            return done, error
        return done, None

    def _complete(self, file: HashedFile, parts: Multipart, done: int) -> bool:
        """Whether the store has put the file together. False where the answer had no room for all that is missing."""
        if parts.held + done < -(-file.bytes // parts.part_bytes):
            return False
        try:
            self._transport.post(f"{self._path}/complete", Stored, body={"sha256": file.sha256}, repeatable=True)
        except Conflict:  # the store has lost what it had, or another client is completing the same file
            self._transport.backoff.clock.sleep(PAUSE)
            return False
        return True


class _Share:
    """What one file adds to a meter, from several threads."""

    def __init__(self, bar: Meter) -> None:
        self._bar = bar
        self._done = 0
        self._lock = Lock()

    def place(self, done: int) -> None:
        """So many of its bytes are through, all in all."""
        with self._lock:
            self._bar.advance(done - self._done)
            self._done = done

    def advance(self, amount: int) -> None:
        """More of them are, or less where a part starts again."""
        with self._lock:
            self._bar.advance(amount)
            self._done += amount


def _reading(file: HashedFile, start: int, end: int, share: _Share) -> Callable[[], Iterator[bytes]]:
    """What to send of the file, anew for each attempt."""
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        share.advance(-sent)
        sent = 0
        for chunk in read_unchanged(file, start=start, end=end):
            yield chunk
            sent += len(chunk)
            share.advance(len(chunk))

    return body
