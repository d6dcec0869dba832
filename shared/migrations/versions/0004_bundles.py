"""Bundles of small images; what was found in an image."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"

STAGES = "'plan', 'predict', 'assemble', 'train', 'load', 'close'"


def upgrade() -> None:
    nothing = sa.text("'{}'::jsonb")  # for the images there are, and those that an API of before adds
    op.add_column("job_images", sa.Column("result", postgresql.JSONB(), server_default=nothing, nullable=False))
    _allow_stages(f"'bundle', {STAGES}")


def downgrade() -> None:
    op.execute("DELETE FROM jobs WHERE id IN (SELECT job_id FROM blocks WHERE stage = 'bundle')")
    _allow_stages(STAGES)
    op.drop_column("job_images", "result")


def _allow_stages(stages: str) -> None:
    op.drop_constraint(op.f("ck_blocks_stage"), "blocks", type_="check")
    op.create_check_constraint(op.f("ck_blocks_stage"), "blocks", f"stage IN ({stages})")
