"""Objects, uploads in parts, sources; manifests of dataset versions; ingest and preprocess jobs."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"

STAGES = "'bundle', 'plan', 'predict', 'assemble', 'train', 'load', 'close'"
KINDS = "'segment', 'train', 'import'"
ROLES = "'image', 'mask'"
JSON = postgresql.JSONB()
NOTHING, NONE = sa.text("'{}'::jsonb"), sa.text("'[]'::jsonb")


def upgrade() -> None:
    _make_objects()
    _move_files()
    _make_uploads_and_sources()
    _widen_versions()
    _make_images()
    _widen_jobs()


def downgrade() -> None:
    op.execute("DELETE FROM jobs WHERE kind IN ('ingest', 'preprocess')")
    _allow("blocks", "stage", STAGES)
    _allow("jobs", "kind", KINDS, name="jobkind")
    for name in ("findings", "entry", "parts", "verified", "etag", "bucket"):
        op.drop_column("job_images", name)
    op.drop_table("dataset_images")
    op.drop_index(op.f("ix_dataset_versions_workspace_id_cache_digest"), "dataset_versions")
    op.drop_constraint(op.f("ck_dataset_versions_versionstate"), "dataset_versions", type_="check")
    for name in ("summary", "cache_digest", "steps", "origin", "job_id", "layout", "parent_id", "state"):
        op.drop_column("dataset_versions", name)
    op.drop_column("datasets", "last_number")
    op.drop_table("sources")
    op.drop_table("uploads")
    op.execute("DELETE FROM dataset_files WHERE role NOT IN ('image', 'mask') OR sha256 IS NULL")
    _allow("dataset_files", "role", ROLES, name="filerole")
    op.drop_index(op.f("ix_dataset_files_object_id"), "dataset_files")
    op.drop_column("dataset_files", "object_id")
    op.alter_column("dataset_files", "sha256", nullable=False)
    op.drop_table("objects")


def _owned() -> list[sa.Column[Any]]:
    owner = sa.ForeignKey("workspaces.id", ondelete="CASCADE")
    return [
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), owner, nullable=False),
    ]


def _make_objects() -> None:
    op.create_table(
        "objects",
        *_owned(),
        sa.Column("bucket", sa.String()),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("sha256", sa.String()),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("etag", sa.String()),
        sa.Column("verified_at", sa.DateTime(timezone=True)),
        sa.Column("wanted_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    )
    op.create_index(
        op.f("ix_objects_workspace_id_key"),
        "objects",
        ["workspace_id", "key"],
        unique=True,
        postgresql_where=sa.text("bucket IS NULL"),
    )
    op.create_index(
        op.f("ix_objects_workspace_id_bucket_key_etag"),
        "objects",
        ["workspace_id", "bucket", "key", "etag"],
        unique=True,
        postgresql_where=sa.text("bucket IS NOT NULL"),
        postgresql_nulls_not_distinct=True,
    )
    op.create_index(op.f("ix_objects_workspace_id_sha256"), "objects", ["workspace_id", "sha256"])
    op.create_index(op.f("ix_objects_wanted_at"), "objects", ["wanted_at"])


def _move_files() -> None:
    """Files of before lie where their dataset had them; each becomes an object there."""
    key = "'datasets/' || v.dataset_id || '/objects/' || f.sha256"
    op.execute(
        "INSERT INTO objects (id, workspace_id, key, sha256, bytes) "
        f"SELECT gen_random_uuid(), f.workspace_id, {key}, f.sha256, max(f.bytes) "
        "FROM dataset_files f JOIN dataset_versions v ON v.id = f.version_id GROUP BY 2, 3, 4"
    )
    op.add_column("dataset_files", sa.Column("object_id", sa.Uuid(), sa.ForeignKey("objects.id", ondelete="RESTRICT")))
    op.execute(
        "UPDATE dataset_files f SET object_id = o.id FROM objects o, dataset_versions v "
        f"WHERE v.id = f.version_id AND o.workspace_id = f.workspace_id AND o.bucket IS NULL AND o.key = {key}"
    )
    op.alter_column("dataset_files", "object_id", nullable=False)
    op.create_index(op.f("ix_dataset_files_object_id"), "dataset_files", ["object_id"])
    op.alter_column("dataset_files", "sha256", nullable=True)
    _allow("dataset_files", "role", f"{ROLES}, 'part', 'other', 'derived'", name="filerole")


def _make_uploads_and_sources() -> None:
    op.create_table(
        "uploads",
        *_owned(),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("part_bytes", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("store_upload", sa.String(), nullable=False),
        sa.UniqueConstraint("workspace_id", "sha256"),
    )
    op.create_table(
        "sources",
        *_owned(),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.UniqueConstraint("workspace_id", "name"),
    )


def _widen_versions() -> None:
    states = "'sealed', 'ingesting', 'ready', 'invalid'"
    parent = sa.ForeignKey("dataset_versions.id", ondelete="SET NULL")
    op.add_column("datasets", sa.Column("last_number", sa.Integer(), server_default="0", nullable=False))
    op.execute(
        "UPDATE datasets d SET last_number = v.number "
        "FROM (SELECT dataset_id, max(number) AS number FROM dataset_versions GROUP BY 1) v WHERE v.dataset_id = d.id"
    )
    op.add_column("dataset_versions", sa.Column("state", sa.String(32), server_default="sealed", nullable=False))
    op.create_check_constraint(op.f("ck_dataset_versions_versionstate"), "dataset_versions", f"state IN ({states})")
    op.add_column("dataset_versions", sa.Column("parent_id", sa.Uuid(), parent))
    op.add_column("dataset_versions", sa.Column("layout", sa.String()))
    op.add_column("dataset_versions", sa.Column("job_id", sa.Uuid()))
    op.add_column("dataset_versions", sa.Column("origin", JSON, server_default=NOTHING, nullable=False))
    op.add_column("dataset_versions", sa.Column("steps", JSON, server_default=NONE, nullable=False))
    op.add_column("dataset_versions", sa.Column("cache_digest", sa.String()))
    op.add_column("dataset_versions", sa.Column("summary", JSON, server_default=NOTHING, nullable=False))
    op.create_index(op.f("ix_dataset_versions_workspace_id_cache_digest"), "dataset_versions", ["workspace_id", "cache_digest"])


def _make_images() -> None:
    version = sa.ForeignKey("dataset_versions.id", ondelete="CASCADE")
    op.create_table(
        "dataset_images",
        *_owned(),
        sa.Column("version_id", sa.Uuid(), version, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("file", sa.String()),
        sa.Column("parts", JSON, server_default=NONE, nullable=False),
        sa.Column("mask", sa.String()),
        sa.Column("mask_kind", sa.String()),
        sa.Column("types", sa.String()),
        sa.Column("classes", JSON, server_default=NONE, nullable=False),
        sa.Column("height", sa.Integer()),
        sa.Column("width", sa.Integer()),
        sa.Column("channels", JSON, server_default=NONE, nullable=False),
        sa.Column("dtype", sa.String()),
        sa.Column("mpp", sa.Float()),
        sa.Column("split", sa.String()),
        sa.Column("group", sa.String()),
        sa.Column("problems", JSON, server_default=NONE, nullable=False),
        sa.Column("statistics", JSON, server_default=NOTHING, nullable=False),
        sa.Column("source", JSON, server_default=NOTHING, nullable=False),
        sa.CheckConstraint("state IN ('accepted', 'rejected')", name="manifeststate"),
        sa.UniqueConstraint("version_id", "ordinal"),
        sa.UniqueConstraint("version_id", "name"),
    )


def _widen_jobs() -> None:
    op.add_column("job_images", sa.Column("bucket", sa.String()))
    op.add_column("job_images", sa.Column("etag", sa.String()))
    op.add_column("job_images", sa.Column("verified", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("job_images", sa.Column("parts", JSON, server_default=NONE, nullable=False))
    op.add_column("job_images", sa.Column("entry", JSON, server_default=NOTHING, nullable=False))
    op.add_column("job_images", sa.Column("findings", JSON, server_default=NONE, nullable=False))
    _allow("jobs", "kind", f"{KINDS}, 'ingest', 'preprocess'", name="jobkind")
    _allow("blocks", "stage", f"{STAGES}, 'arrange', 'examine', 'transform', 'report'")


def _allow(table: str, column: str, values: str, *, name: str | None = None) -> None:
    constraint = op.f(f"ck_{table}_{name or column}")
    op.drop_constraint(constraint, table, type_="check")
    op.create_check_constraint(constraint, table, f"{column} IN ({values})")
