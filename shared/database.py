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
        hide_parameters=True,  # causes are shown to users
        connect_args={
            "connect_timeout": 5,
            "application_name": "overtile",
            "options": "-c lock_timeout=30000",
            # A server that vanished without a word is noticed in seconds, not when the kernel gives up.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 2,
            "tcp_user_timeout": 15_000,
        },
    )


def make_sessions(engine: Engine) -> Sessions:
    """Sessions whose objects stay readable after their transaction ended."""
    return sessionmaker(engine, expire_on_commit=False)


def ping(engine: Engine) -> None:
    """Raise if the database does not answer."""
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
