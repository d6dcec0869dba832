"""/v1/datasets/{id}/uploads"""

from uuid import UUID

from fastapi import APIRouter

from services.api.dependencies import CallerDep, SessionDep, StorageDep
from shared.domain import datasets, uploads
from shared.domain.objects import Content
from shared.domain.uploads import Target
from shared.schemas.datasets import (
    CompleteIn,
    FileIn,
    FilesIn,
    MultipartOut,
    PartOut,
    StoredOut,
    UploadOut,
    UploadsOut,
)

router = APIRouter(prefix="/v1/datasets/{dataset_id}/uploads", tags=["datasets"])


@router.post("")
def request_uploads(
    dataset_id: UUID, order: FilesIn, caller: CallerDep, session: SessionDep, storage: StorageDep
) -> UploadsOut:
    """Where to PUT each file. The bytes go to the object store; files that the workspace has already go nowhere.

    Ask again at any time: after a broken line, or when URLs have run out, for what the store still lacks.
    """
    datasets.get(session, caller.workspace, dataset_id)
    targets = uploads.request(session, storage, caller.workspace, order.files)
    files = [_show(file, target) for file, target in zip(order.files, targets, strict=True)]
    return UploadsOut(files=files, expires_in=uploads.UPLOAD_SECONDS)


@router.post("/complete", response_model=StoredOut)
def complete_upload(
    dataset_id: UUID, order: CompleteIn, caller: CallerDep, session: SessionDep, storage: StorageDep
) -> Content:
    """Put the parts of a file together once all have been sent. Twice is as once. 409 where some are missing."""
    datasets.get(session, caller.workspace, dataset_id)
    return uploads.complete(session, storage, caller.workspace, order.sha256)


def _show(file: FileIn, target: Target) -> UploadOut:
    parts = target.parts
    if parts is None:
        return UploadOut(name=file.name, sha256=file.sha256, url=target.url)
    multipart = MultipartOut(
        upload=parts.upload,
        part_bytes=parts.part_bytes,
        parts=[PartOut(number=number, url=url) for number, url in parts.urls.items()],
        held=parts.held,
    )
    return UploadOut(name=file.name, sha256=file.sha256, multipart=multipart)
