"""Objects of segmented images, in stages of their own; evaluate jobs; whether what a job left behind was removed."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

STAGES = (
    "'bundle', 'plan', 'predict', 'assemble', 'train', 'arrange', 'examine', 'transform', 'report', 'load', 'close'"
)
KINDS = "'segment', 'train', 'import', 'ingest', 'preprocess'"
ADDED = "'divide', 'label', 'summarise'"
UNTIDIED = "tidied_at IS NULL AND finished_at IS NOT NULL AND kind IN ('segment','evaluate')"


def upgrade() -> None:
    _allow("blocks", "stage", f"{STAGES}, {ADDED}", name="stage")
    _allow("jobs", "kind", f"{KINDS}, 'evaluate'", name="jobkind")
    op.add_column("jobs", sa.Column("tidied_at", sa.DateTime(timezone=True)))
    op.create_index("ix_jobs_untidied", "jobs", ["finished_at"], postgresql_where=sa.text(UNTIDIED))
    op.create_index("ix_artifacts_key", "artifacts", ["key"], postgresql_using="hash")


def downgrade() -> None:
    op.drop_index("ix_artifacts_key", "artifacts")
    op.drop_index("ix_jobs_untidied", "jobs")
    op.drop_column("jobs", "tidied_at")
    op.execute(f"DELETE FROM jobs WHERE id IN (SELECT job_id FROM blocks WHERE stage IN ({ADDED}))")
    op.execute("DELETE FROM jobs WHERE kind = 'evaluate'")
    _allow("blocks", "stage", STAGES, name="stage")
    _allow("jobs", "kind", KINDS, name="jobkind")


def _allow(table: str, column: str, values: str, *, name: str) -> None:
    constraint = op.f(f"ck_{table}_{name}")
    op.drop_constraint(constraint, table, type_="check")
    op.create_check_constraint(constraint, table, f"{column} IN ({values})")
