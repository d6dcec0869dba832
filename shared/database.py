"""The port to PostgreSQL."""

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from shared.settings import Settings

Sessions = sessionmaker[Session]


def make_engine(settings: Settings) -> Engine:
    """An engine that finds out about broken connections before it uses them."""
    return create_engine(
        settings.database_url.get_secret_value(),
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=40,  # the API's threads, at most 40, may all ask at once
        # READ COMMITTED is what the leases are written for: a waiting UPDATE looks at the row again before it wins.
        isolation_level="READ COMMITTED",
        connect_args={"connect_timeout": 5, "application_name": "overtile", "options": "-c lock_timeout=30000"},
    )


def make_sessions(engine: Engine) -> Sessions:
    """Sessions whose objects stay readable after their transaction ended."""
    return sessionmaker(engine, expire_on_commit=False)


def ping(engine: Engine) -> None:
    """Raise if the database does not answer."""
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
