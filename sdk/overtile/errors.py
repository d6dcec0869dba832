"""Everything that can go wrong, as exceptions.

OvertileError
├── ConfigurationError    no URL or no API key, or one that cannot be right
├── LocalFileError        a path on this machine is missing, unreadable, or changed while it was sent
├── UnsafeName            an artifact's name would leave the folder it is downloaded to
├── ChecksumMismatch      the bytes that arrived are not the bytes that were announced
├── UnexpectedAnswer      whatever answered does not speak this API: usually a wrong URL
├── ConnectionFailed      no answer: refused, cut or too slow
├── WaitTimeout           a job did not end in the time given; it goes on (also a TimeoutError)
├── JobFailed             a job ended as failed
└── HttpError             a server answered, and said no
    ├── StoreError        … the object store, about a presigned URL
    └── ApiError          … the API, about a request
        ├── Unauthorized  401   no such API key
        ├── Forbidden     403   this key may not do that
        ├── NotFound      404   not in this workspace
        ├── Conflict      409   the name or the idempotency key is taken
        ├── Invalid       422   the request is well-formed, its content is not
        ├── RateLimited   429   too many requests
        └── ServerError   5xx   the platform's fault, or a server of it is down
"""

from collections.abc import Sequence

from overtile.shapes import JobDetail, JobImage

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})  # statuses after which the same request may succeed
IMAGES_NAMED = 10  # failed images listed in a message; all of them are on the exception


class OvertileError(Exception):
    """Root of all exceptions of this package."""

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed a little later."""
        return False

    @property
    def untouched(self) -> bool:
        """Whether the server certainly did nothing, so that any request may be repeated."""
        return False

    @property
    def retry_after(self) -> float | None:
        """Seconds the server asked to wait, if it did."""
        return None


class ConfigurationError(OvertileError):
    """The client lacks its URL or its API key, or one of them cannot be right."""


class LocalFileError(OvertileError):
    """A path on this machine is missing, unreadable, ambiguous, or changed while it was sent."""


class UnsafeName(OvertileError):
    """An artifact's name would leave the folder it is downloaded to; nothing was written."""


class ChecksumMismatch(OvertileError):
    """The bytes that arrived are not the bytes that were announced; nothing was kept."""

    @property
    def transient(self) -> bool:
        """A transfer may go wrong once."""
        return True


class UnexpectedAnswer(OvertileError):
    """Whatever answered does not speak this API: usually a wrong URL."""


class ConnectionFailed(OvertileError):
    """No answer. `sent` tells whether the request may have reached the server."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent

    @property
    def transient(self) -> bool:
        """Servers restart and networks recover."""
        return True

    @property
    def untouched(self) -> bool:
        """True if no connection was made."""
        return not self.sent


class WaitTimeout(OvertileError, TimeoutError):
    """The job did not end in the time given. It goes on; `job` is how it stood last."""

    def __init__(self, job: JobDetail, seconds: float) -> None:
        done, blocks = job.progress.done, job.progress.blocks
        super().__init__(f"job {job.id} is {job.state} after {seconds:g} s, {done} of {blocks} blocks done; it goes on")
        self.job = job


class JobFailed(OvertileError):
    """The job ended as failed. `images` are those that failed, each with its `error`."""

    def __init__(self, job: JobDetail, images: Sequence[JobImage]) -> None:
        cause = job.error.detail if job.error else "the platform gave no cause"
        lines = [f"{job.kind} job {job.id} failed: {cause}"]
        if len(images) > 1 or any(image.name not in cause for image in images):  # else the cause says it all
            lines += [f"  {_describe(image)}" for image in images[:IMAGES_NAMED]]
        if len(images) > IMAGES_NAMED:
            lines.append(f"  … and {len(images) - IMAGES_NAMED} more images")
        super().__init__("\n".join(lines))
        self.job = job
        self.images = list(images)


def _describe(image: JobImage) -> str:
    """Its name and its cause; causes mostly begin with the name."""
    detail = image.error.detail if image.error else image.state
    return detail if detail.startswith(image.name) else f"{image.name}: {detail}"


class HttpError(OvertileError):
    """A server answered, and said no."""

    def __init__(self, detail: str, *, status: int, request_id: str | None = None, after: float | None = None) -> None:
        request = f", request {request_id}" if request_id else ""
        super().__init__(f"{detail} ({status}{request})")
        self.detail = detail
        self.status = status
        self.request_id = request_id
        self._after = after

    @property
    def transient(self) -> bool:
        """Decided by the status."""
        return self.status in TRANSIENT

    @property
    def retry_after(self) -> float | None:
        """Seconds from the `Retry-After` header."""
        return self._after


class StoreError(HttpError):
    """The object store refused a presigned URL."""

    @property
    def expired(self) -> bool:
        """Stores answer 403 once the URL's time is over; a fresh URL helps."""
        return self.status == 403


class ApiError(HttpError):
    """The API refused a request."""


class Unauthorized(ApiError):
    """401: no such API key."""


class Forbidden(ApiError):
    """403: this key may not do that."""


class NotFound(ApiError):
    """404: not in this workspace."""


class Conflict(ApiError):
    """409: the name is taken, or the idempotency key was used for another request."""


class Invalid(ApiError):
    """422: the request is well-formed, its content is not."""


class RateLimited(ApiError):
    """429: too many requests; nothing was done."""

    @property
    def untouched(self) -> bool:
        """A request that was turned away at the door changed nothing."""
        return True


class ServerError(ApiError):
    """5xx: the platform's fault, or a server it needs is down."""


_BY_STATUS: dict[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    422: Invalid,
    429: RateLimited,
}


def class_for(status: int) -> type[ApiError]:
    """The exception that stands for an HTTP status of the API."""
    return ServerError if status >= 500 else _BY_STATUS.get(status, ApiError)
