"""Workspaces and API keys."""

import hashlib
import secrets
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.errors import Conflict, NotFound, Unauthenticated
from shared.tables import ApiKey, Workspace

KEY_PREFIX = "ovt_"  # lets secret scanners recognise a leaked key


def create(session: Session, name: str) -> Workspace:
    """A new workspace. Raises Conflict if the name is taken."""
    workspace = Workspace(name=name)
    try:
        with session.begin():
            session.add(workspace)
    except IntegrityError as error:
        raise Conflict(f"a workspace named {name!r} exists already") from error
    return workspace


def find(session: Session, name: str) -> Workspace:
    """The workspace of that name. Raises NotFound."""
    with session.begin():
        workspace = session.scalar(select(Workspace).where(Workspace.name == name))
    if workspace is None:
        raise NotFound(f"there is no workspace named {name!r}")
    return workspace


def issue_key(session: Session, workspace: Workspace, *, label: str) -> str:
    """A new API key. The text is returned once; only its hash is kept."""
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    with session.begin():
        session.add(ApiKey(workspace_id=workspace.id, label=label, digest=_digest(key)))
    return key


def revoke_key(session: Session, workspace: Workspace, *, label: str) -> int:
    """Close all keys of that label; returns how many were open."""
    with session.begin():
        keys = session.scalars(
            select(ApiKey).where(
                ApiKey.workspace_id == workspace.id, ApiKey.label == label, ApiKey.revoked_at.is_(None)
            )
        ).all()
        for key in keys:
            key.revoked_at = func.now()
    return len(keys)


def authenticate(session: Session, key: str) -> UUID:
    """The id of the workspace the key opens. Raises Unauthenticated."""
    with session.begin():
        workspace_id = session.scalar(
            select(ApiKey.workspace_id).where(ApiKey.digest == _digest(key), ApiKey.revoked_at.is_(None))
        )
    if workspace_id is None:
        raise Unauthenticated("this API key is unknown or revoked; `overtile-admin key issue` makes a new one")
    return workspace_id


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
