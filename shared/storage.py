"""The port to the object store (any S3). Keys are made here, from ids and hashes, never from what a user typed."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import boto3
from boto3.exceptions import S3UploadFailedError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from shared.errors import NotFound, Unavailable
from shared.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

READ_BYTES = 1024 * 1024


def upload_key(dataset_id: UUID, sha256: str) -> str:
    """Where the bytes of an uploaded file lie."""
    return f"datasets/{dataset_id}/objects/{sha256}"


def model_key(model_id: UUID, version_id: UUID, file: str) -> str:
    """Where a file of a model version lies."""
    return f"models/{model_id}/{version_id}/{file}"


def image_key(job_id: UUID, image_id: UUID, file: str) -> str:
    """Where a result of one image of a job lies."""
    return f"jobs/{job_id}/{image_id}/{file}"


def job_key(job_id: UUID, file: str) -> str:
    """Where a result of a job as a whole lies."""
    return f"jobs/{job_id}/{file}"


@dataclass(frozen=True)
class Stored:
    """An object as it was written."""

    key: str
    sha256: str
    bytes: int


class Storage:
    """One bucket. Safe to share between threads."""

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

    def get_file(self, key: str, path: Path) -> str:
        """Write the object to `path` as it comes and return its sha256. Raises NotFound."""
        digest = hashlib.sha256()
        with _answers(key), path.open("wb") as file:
            for part in self._client.get_object(Bucket=self._bucket, Key=key)["Body"].iter_chunks(READ_BYTES):
                digest.update(part)
                file.write(part)
        return digest.hexdigest()

    def delete(self, key: str) -> None:
        """Remove the object; no error if there is none."""
        with _answers(key):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def size(self, key: str) -> int | None:
        """Bytes of the object, None if there is none."""
        try:
            with _answers(key):
                return self._client.head_object(Bucket=self._bucket, Key=key)["ContentLength"]
        except NotFound:
            return None

    def upload_url(self, key: str, *, seconds: int) -> str:
        """A URL that takes a PUT of the object's bytes, for `seconds`."""
        place = {"Bucket": self._bucket, "Key": key}
        return self._public.generate_presigned_url("put_object", Params=place, ExpiresIn=seconds)

    def download_url(self, key: str, *, seconds: int, filename: str) -> str:
        """A URL that gives the object's bytes, for `seconds`; a browser saves it as `filename`."""
        place = {
            "Bucket": self._bucket,
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
