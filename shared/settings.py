"""What every process must be told: where the four servers are. One subclass per service adds its own.

Read from `OVERTILE_*` environment variables. Nothing secret has a default, so a forgotten one stops the start.
"""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Addresses and credentials of the servers; the same for all services."""

    model_config = SettingsConfigDict(env_prefix="OVERTILE_", frozen=True)

    database_url: SecretStr = Field(description="SQLAlchemy URL, postgresql+psycopg://user:password@host:port/name")
    broker_url: SecretStr = Field(description="redis://:password@host:port/0, a Redis or Valkey")
    s3_endpoint: str = Field(description="URL under which the services reach the object store")
    s3_public_endpoint: str | None = Field(None, description="URL under which users reach it; the same if not given")
    s3_key: str = Field(description="access key of the object store")
    s3_secret: SecretStr = Field(description="secret key of the object store")
    s3_bucket: str = Field("overtile", description="bucket that holds everything")
    s3_region: str = Field("us-east-1", description="region that requests are signed for")

    queue_depth: int = Field(
        32, ge=1, description="about how many blocks wait in the broker; the rest wait in the database"
    )
    ring_patience_seconds: float = Field(20.0, gt=0, description="a rung block that nobody claimed is rung again after")
    lease_seconds: float = Field(30.0, gt=0, description="how long a silent worker keeps its block")
    block_attempts: int = Field(5, ge=1, description="tries before a block is given up, with its cause")


class ExecutorSettings(Settings):
    """What a process that executes blocks is told besides."""

    concurrency: int = Field(2, ge=1, description="blocks worked on at once in this process")
    ready_file: Path | None = Field(None, description="file made once the process listens, for readiness probes")
    drain_seconds: float = Field(20.0, ge=0, description="after SIGTERM: how long blocks may go on before release")
