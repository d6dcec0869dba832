"""The port to the object store (any S3). Keys are made here, from ids and hashes, never from what a user typed."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import boto3
from boto3.exceptions import S3UploadFailedError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from shared.errors import Conflict, NotFound, Unavailable
from shared.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, ObjectIdentifierTypeDef

READ_BYTES = 1024 * 1024
AT_ONCE = 1000  # objects: S3 removes no more by one request
OBJECTS = "workspaces/"  # what the keys of all workspaces' objects begin with


def object_key(workspace_id: UUID, sha256: str) -> str:
    """Where the bytes of that hash lie: of any file of any dataset of the workspace, once."""
    return f"{OBJECTS}{workspace_id}/objects/{sha256}"


def model_key(model_id: UUID, version_id: UUID, file: str) -> str:
    """Where a file of a model version lies."""
    return f"models/{model_id}/{version_id}/{file}"


def image_key(job_id: UUID, image_id: UUID, file: str) -> str:
    """Where a result of one image of a job lies."""
    return f"jobs/{job_id}/{image_id}/{file}"


def job_key(job_id: UUID, file: str) -> str:
    """Where a result of a job as a whole lies; without a file, what the keys of all its results begin with."""
    return f"jobs/{job_id}/{file}"


@dataclass(frozen=True)
class Stored:
    """An object as it was written."""

    key: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Listed:
    """An object as the store lists it. Another `etag` means other bytes."""

    key: str
    bytes: int
    etag: str


@dataclass(frozen=True)
class Part:
    """A part of a large object that is on its way."""

    bytes: int
    etag: str


@dataclass(frozen=True)
class Begun:
    """A large object on its way, as the store knows it."""

    key: str
    upload: str  # the store's name for it
    since: datetime


class Storage:
    """One bucket, and the lab's own that may be read beside it. Safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._bucket = settings.s3_bucket
        self._client = _connect(settings, settings.s3_endpoint)
        self._public = _connect(settings, settings.s3_public_endpoint or settings.s3_endpoint)

    def put(self, key: str, body: bytes) -> Stored:
        """Store `body` under `key`, replacing what is there."""
        with _answers(key):
            self._client.put_object(Bucket=self._bucket, Key=key, Body=body)
        return Stored(key, hashlib.sha256(body).hexdigest(), len(body))

    def put_file(self, key: str, path: Path) -> Stored:
        """Store a file from disk, in parts when it is large, without holding it in memory."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with _answers(key):
            self._client.upload_file(str(path), self._bucket, key)
        return Stored(key, digest, path.stat().st_size)

    def get(self, key: str) -> bytes:
        """The whole object. Raises NotFound."""
        with _answers(key):
            return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()

    def get_verified(self, key: str, *, sha256: str) -> bytes:
        """The whole object, if it is the one that was written; raises Unavailable if its bytes are others."""
        body = self.get(key)
        if hashlib.sha256(body).hexdigest() != sha256:
            raise Unavailable(f"the object store gave other bytes for {key} than were written to it")
        return body

    def read_range(
        self, key: str, offset: int, count: int, *, bucket: str | None = None, etag: str | None = None
    ) -> bytes:
        """`count` bytes of the object from `offset` on, which must all be there.

        Raises:
            NotFound: there is no such object.
            Conflict: its etag is not `etag`: it was replaced.
            Unavailable: the store gave something else than that range.
        """
        wanted = f"bytes={offset}-{offset + count - 1}"
        with _answers(key):
            answer = self._client.get_object(Bucket=bucket or self._bucket, Key=key, Range=wanted)
            with closing(answer["Body"]) as body:
                size = answer.get("ContentRange", "").rpartition("/")[2]
                if answer["ContentLength"] != count or not size.isdigit():  # perhaps the whole object
                    raise Unavailable(f"the object store answered {wanted} of {key} with other bytes")
                if etag is not None and etag != _etag(answer.get("ETag"), answer["LastModified"], int(size)):
                    raise Conflict(f"{key} was replaced in the object store")
                content = body.read()
        if len(content) != count:
            raise Unavailable(f"the object store gave {len(content)} of {count} bytes of {key}")
        return content

    def get_file(
        self, key: str, path: Path, *, bucket: str | None = None, etag: str | None = None, most: int | None = None
    ) -> str:
        """Write the object to `path` as it comes and return its sha256.

        Raises:
            NotFound: there is no such object.
            Conflict: its etag is not `etag`, or it has more than `most` bytes; then none of them is fetched.
            OSError: of the disk.
        """
        digest = hashlib.sha256()
        with _answers(key), path.open("wb") as file:
            answer = self._client.get_object(Bucket=bucket or self._bucket, Key=key)
            with closing(answer["Body"]) as body:
                size = answer["ContentLength"]
                other = etag is not None and etag != _etag(answer.get("ETag"), answer["LastModified"], size)
                if other or (most is not None and size > most):
                    raise Conflict(f"{key} is another object in the store than was expected: it has {size} bytes")
                for part in body.iter_chunks(READ_BYTES):
                    digest.update(part)
                    file.write(part)
        return digest.hexdigest()

    def delete(self, key: str) -> None:
        """Remove the object; no error if there is none."""
        with _answers(key):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def delete_many(self, keys: Sequence[str]) -> None:
        """Remove objects, a thousand at a time; no error for what is not there.

        Raises Unavailable if some stay; the others are gone.
        """
        for first in range(0, len(keys), AT_ONCE):
            some = keys[first : first + AT_ONCE]
            listed: list[ObjectIdentifierTypeDef] = [{"Key": key} for key in some]
            with _answers(f"{some[0]} and {len(some) - 1} more"):
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": listed, "Quiet": True})
            for refused in answer.get("Errors", [])[:1]:
                raise Unavailable(f"the object store did not remove {refused.get('Key')}: {refused.get('Message')}")

    def look(self, key: str, *, bucket: str | None = None) -> Listed | None:
        """What the store says of the object without sending it, None if there is none."""
        try:
            with _answers(key):
                head = self._client.head_object(Bucket=bucket or self._bucket, Key=key)
        except NotFound:
            return None
        size = head["ContentLength"]
        return Listed(key, size, _etag(head.get("ETag"), head["LastModified"], size))

    def list_objects(self, prefix: str, *, bucket: str | None = None) -> Iterator[Listed]:
        """The objects of a bucket whose keys begin so, by key. Raises NotFound if there is no such bucket."""
        bucket = bucket or self._bucket
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        with _answers(f"{bucket}/{prefix}"):
            for page in pages:
                for found in page.get("Contents", []):
                    size = found["Size"]
                    yield Listed(found["Key"], size, _etag(found.get("ETag"), found["LastModified"], size))

    def begin_parts(self, key: str) -> str:
        """Begin an object that is sent in parts; returns the store's name for the upload."""
        with _answers(key):
            return self._client.create_multipart_upload(Bucket=self._bucket, Key=key)["UploadId"]

    def part_url(self, key: str, upload: str, number: int, *, seconds: int) -> str:
        """A URL that takes a PUT of part `number` (from 1), for `seconds`."""
        place: dict[str, Any] = {"Bucket": self._bucket, "Key": key, "UploadId": upload, "PartNumber": number}
        return self._public.generate_presigned_url("upload_part", Params=place, ExpiresIn=seconds)

    def list_parts(self, key: str, upload: str) -> dict[int, Part]:
        """The parts that have arrived, by number. Raises NotFound for an upload that is over, or was lost."""
        pages = self._client.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=key, UploadId=upload)
        with _answers(key):
            return {
                part["PartNumber"]: Part(part["Size"], part["ETag"]) for page in pages for part in page.get("Parts", [])
            }

    def complete_parts(self, key: str, upload: str, parts: Mapping[int, Part]) -> None:
        """Make the object of its parts, replacing what is there. Raises NotFound as `list_parts` does."""
        listed: list[CompletedPartTypeDef] = [
            {"PartNumber": number, "ETag": part.etag} for number, part in sorted(parts.items())
        ]
        with _answers(key):
            self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": listed}
            )

    def abort_parts(self, key: str, upload: str) -> None:
        """Give up an object that is on its way; no error if there is none."""
        with suppress(NotFound), _answers(key):
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)

    def list_begun(self, prefix: str) -> Iterator[Begun]:
        """The objects on their way in parts whose keys begin so."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=prefix)
        with suppress(NotFound), _answers(prefix):  # which some stores answer until the first one is begun
            for page in pages:
                for found in page.get("Uploads", []):
                    yield Begun(found["Key"], found["UploadId"], found["Initiated"])

    def upload_url(self, key: str, *, seconds: int) -> str:
        """A URL that takes a PUT of the object's bytes, for `seconds`."""
        place = {"Bucket": self._bucket, "Key": key}
        return self._public.generate_presigned_url("put_object", Params=place, ExpiresIn=seconds)

    def download_url(self, key: str, *, seconds: int, filename: str, bucket: str | None = None) -> str:
        """A URL that gives the object's bytes, for `seconds`; a browser saves it as `filename`."""
        place = {
            "Bucket": bucket or self._bucket,
            "Key": key,
            "ResponseContentDisposition": f'attachment; filename="{_plain(filename)}"',
        }
        return self._public.generate_presigned_url("get_object", Params=place, ExpiresIn=seconds)

    def ping(self) -> None:
        """Raise if the bucket does not answer."""
        with _answers(self._bucket):
            self._client.head_bucket(Bucket=self._bucket)


def _plain(filename: str) -> str:
    """The name without what could end the header it stands in."""
    return "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in filename)


def _etag(told: str | None, modified: datetime, size: int) -> str:
    """The store's, without the quotes around it; of a store that has none, made of when it was written and its size."""
    return (told or "").strip('"') or f"{int(modified.timestamp())}-{size}"


def _connect(settings: Settings, endpoint: str) -> "S3Client":
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=settings.s3_key,
        aws_secret_access_key=settings.s3_secret.get_secret_value(),
        region_name=settings.s3_region,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=5,
            read_timeout=60,
            retries={"max_attempts": 4, "mode": "standard"},
            max_pool_connections=32,
            # Checksums are ours, end to end; not every S3 understands the newer trailing ones.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


@contextmanager
def _answers(key: str) -> Iterator[None]:
    """Translate the client's errors into ours."""
    try:
        yield
    except ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == HTTPStatus.NOT_FOUND:
            raise NotFound(f"the object store has no {key}") from error
        raise Unavailable(f"the object store refused {key}: {error}") from error
    except (BotoCoreError, S3UploadFailedError, HTTPError) as error:  # HTTPError: urllib3's, when a body breaks off
        raise Unavailable(f"the object store did not answer for {key}: {error}") from error
