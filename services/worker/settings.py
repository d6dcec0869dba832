"""What a worker is told besides the servers' addresses."""

from pathlib import Path

from pydantic import Field

from shared.settings import ExecutorSettings, Settings


class WorkerSettings(ExecutorSettings):
    """See the field descriptions; all are read from `OVERTILE_*`."""

    triton_url: str = Field(description="host:port of Triton's gRPC endpoint")
    cache_dir: Path = Field(description="folder for images being worked on; may be emptied at any time")
    cache_bytes: int = Field(20_000_000_000, gt=0, description="size up to which the cache may grow, bytes")
    block_side: int = Field(2048, ge=512, description="side of a predict block and of its Zarr shard, px")
    engine_bytes: int = Field(
        6_000_000_000,
        gt=0,
        description="memory that the model server's engine may take for one tile in single precision, bytes",
    )
    batch_pixels: int = Field(
        2**21, gt=0, description="pixels, halo included, up to which tiles of small images are predicted in one batch"
    )
    requests_in_flight: int = Field(2, ge=1, description="requests on their way to Triton at once, per process")
    models_kept: int = Field(
        3, ge=1, description="model versions that Triton holds for each worker process, besides those in use"
    )
    predict_seconds: float = Field(
        300.0, gt=0, description="how long one request for tiles may take before the try counts as failed"
    )
    retry_seconds: float = Field(
        10.0, ge=0, description="how long a Triton that is away is asked again before the try counts as failed"
    )
    shared_memory: bool = Field(True, description="hand tiles to a Triton on the same host without sending them")
    load_seconds: float = Field(300.0, gt=0, description="how long loading a model may take")


class SweeperSettings(Settings):
    """The sweeper needs no model server."""

    sweep_seconds: float = Field(2.0, gt=0, description="pause between two rounds")
    tidy_seconds: float = Field(300.0, gt=0, description="pause between two rounds of removing what nobody wants")
    collect_after_seconds: float = Field(
        86_400.0,
        ge=3600,
        description="how long an object that no file refers to is kept after it was last asked for: longer than an "
        "upload takes from its first file to its version",
    )
    leave_seconds: float = Field(
        900.0,
        ge=0,
        description="how long what a job wrote for itself alone is kept after its end: longer than a worker that lost "
        "its block goes on writing",
    )
    abandon_after_seconds: float = Field(
        172_800.0, gt=0, description="how long an upload in parts is kept after anybody went on with it"
    )
