"""What a trainer is told besides the servers' addresses."""

from pathlib import Path

from pydantic import Field, SecretStr

from shared.settings import ExecutorSettings


class TrainerSettings(ExecutorSettings):
    """See the field descriptions; all are read from `OVERTILE_*`."""

    concurrency: int = Field(1, ge=1, le=1, description="trainings at once; they would share their random numbers")
    cache_dir: Path = Field(description="folder for the images being learned from; may be emptied at any time")
    checkpoint_seconds: float = Field(60.0, ge=0, description="how much work at most is lost when a trainer dies")
    mlflow_url: SecretStr | None = Field(
        None, description="an MLflow server to report trainings to, with user:password@ if it asks for them"
    )
    mlflow_experiment: str = Field("overtile", description="experiment in which their runs are kept")
