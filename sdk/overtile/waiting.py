"""Waiting for a job: when to look again, and what to show meanwhile."""

import math
from collections.abc import Callable, Iterator

from overtile.clock import Clock
from overtile.errors import ConnectionFailed, ServerError, WaitTimeout
from overtile.progress import Meter
from overtile.shapes import JobDetail

FIRST_PAUSE = 0.5  # seconds: the platform answers sooner if the job ends
LONGEST_PAUSE = 5.0  # seconds: how often the progress bar of a long job moves
GROWTH = 1.5
OUTAGE = 60.0  # seconds the API may be away: jobs survive its restart, so waiting for one should too


SHOWN = {
    "train_loss": "training loss",
    "best_dice": "best validation Dice",
}  # of a training's note: what fits beside a bar


def poll(ask: Callable[[float], JobDetail], clock: Clock, *, timeout: float | None) -> Iterator[JobDetail]:
    """The job as it stands, again and again, until it is finished. Raises WaitTimeout after `timeout` seconds.

    `ask` is told how many seconds the platform may take to answer; it answers sooner if the job ends.
    """
    started = clock.now()
    pause = FIRST_PAUSE
    job = ask(0)
    while True:
        yield job
        if job.finished:
            return
        left = math.inf if timeout is None else started + timeout - clock.now()
        if timeout is not None and left <= 0:
            raise WaitTimeout(job, timeout)
        asked, wait = clock.now(), min(pause, left)
        job = _ask_through_outage(lambda: ask(wait), clock, patience=min(OUTAGE, left))  # noqa: B023  # called at once
        waited = clock.now() - asked
        if not job.finished and waited < wait:  # an older platform answers at once
            clock.sleep(wait - waited)
        pause = min(LONGEST_PAUSE, pause * GROWTH)


def _ask_through_outage(ask: Callable[[], JobDetail], clock: Clock, *, patience: float) -> JobDetail:
    since = clock.now()
    while True:
        try:
            return ask()
        except (ConnectionFailed, ServerError):
            if clock.now() - since >= patience:
                raise
        clock.sleep(LONGEST_PAUSE)


def show(job: JobDetail, bar: Meter) -> None:
    """A training by its epochs, once it says so; any other job by blocks, with the stage it is in."""
    epoch, epochs = job.note.get("epoch"), job.note.get("epochs", job.spec.get("parameters", {}).get("epochs"))
    if isinstance(epoch, int) and isinstance(epochs, int):
        finished = epoch - (job.note.get("step", 0) != job.note.get("steps", 0))
        bar.show(finished, epochs, label=", ".join([job.kind, *_figures(job)]), unit="epochs")
        return
    progress = job.progress
    done = progress.done + progress.failed
    bar.show(done, progress.blocks, label=f"{job.kind}: {_stage(job)}", unit="blocks")


def _stage(job: JobDetail) -> str:
    if job.state != "running":
        return job.state
    return next((stage.stage for stage in job.stages if stage.done < stage.blocks), job.state)


def _figures(job: JobDetail) -> list[str]:
    """What a training remarks besides its epoch, such as its loss."""
    figures = {short: job.note.get(name) for name, short in SHOWN.items()}
    return [f"{short} {value:.3g}" for short, value in figures.items() if isinstance(value, float)]
