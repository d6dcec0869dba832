"""The history of the tables (Alembic), run from code so that every process and test uses the same way."""

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

FOLDER = Path(__file__).parent
LOCK = 0x0F_E27_111  # of the database: two upgrades at once would both begin


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the tables to `revision`. Safe to call from several processes at once."""
    _run(engine, command.upgrade, revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Take the tables back to `revision`; `base` is none at all."""
    _run(engine, command.downgrade, revision)


def _run(engine: Engine, step: Callable[[Config, str], None], revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        config.attributes["connection"] = connection
        step(config, revision)
