"""Objects of segmented images, in stages of their own; evaluate jobs."""

from alembic import op

revision = "0006"
down_revision = "0005"

STAGES = (
    "'bundle', 'plan', 'predict', 'assemble', 'train', 'arrange', 'examine', 'transform', 'report', 'load', 'close'"
)
KINDS = "'segment', 'train', 'import', 'ingest', 'preprocess'"
ADDED = "'divide', 'label', 'summarise'"


def upgrade() -> None:
    _allow("blocks", "stage", f"{STAGES}, {ADDED}", name="stage")
    _allow("jobs", "kind", f"{KINDS}, 'evaluate'", name="jobkind")


def downgrade() -> None:
    op.execute(f"DELETE FROM jobs WHERE id IN (SELECT job_id FROM blocks WHERE stage IN ({ADDED}))")
    op.execute("DELETE FROM jobs WHERE kind = 'evaluate'")
    _allow("blocks", "stage", STAGES, name="stage")
    _allow("jobs", "kind", KINDS, name="jobkind")


def _allow(table: str, column: str, values: str, *, name: str) -> None:
    constraint = op.f(f"ck_{table}_{name}")
    op.drop_constraint(constraint, table, type_="check")
    op.create_check_constraint(constraint, table, f"{column} IN ({values})")
