"""What was found out about a model version when it was loaded."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("model_versions", sa.Column("serving", postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("model_versions", "serving")
