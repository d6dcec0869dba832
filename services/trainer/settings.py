"""What a trainer is told besides the servers' addresses."""

from pathlib import Path

from pydantic import Field

from shared.settings import ExecutorSettings


class TrainerSettings(ExecutorSettings):
    """See the field descriptions; all are read from `OVERTILE_*`."""

    concurrency: int = Field(1, ge=1, description="trainings at once; one fills a machine")
    cache_dir: Path = Field(description="folder for the images being learned from; may be emptied at any time")
