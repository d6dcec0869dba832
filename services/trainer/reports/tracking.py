"""The few calls of MLflow's REST API (version 2.0 of its paths) that a training needs."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from shared.errors import OvertileError, Unavailable

MOST_METRICS = 1000  # in one call; this and the next two are MLflow's own limits
MOST_PARAMS = 100  # in one call
LONGEST_PARAM = 6000  # bytes of a parameter's value
_TIMEOUT = 5.0  # seconds, for each step of a call
_JOB = "overtile.job"  # the tag that finds a run again
_LATER = (408, 429)  # Request Timeout, Too Many Requests: the server may take it another time


class Refused(OvertileError):
    """The tracking server will never take this call."""

    def __init__(self, path: str, response: httpx.Response) -> None:
        super().__init__(f"{path} was refused with {response.status_code}: {response.text[:200]}")
        self.status = response.status_code


@dataclass(frozen=True)
class Metric:
    """One figure at one step."""

    key: str
    value: float
    timestamp: int  # ms since 1970; repeated calls with the same one store the figure once
    step: int


class TrackingServer:
    """An MLflow tracking server. Every method calls at once, once, and raises Unavailable or Refused."""

    def __init__(self, url: str) -> None:
        """`url`: without `/api`; user:password@ in it is used for basic authentication."""
        self._url, self._client = url.rstrip("/"), httpx.Client(timeout=_TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def open_run(self, experiment: str, *, job_id: str, name: str, tags: Mapping[str, str]) -> str:
        """The id of the job's run, running again if it had ended, or of a new one. Makes the experiment if need be."""
        experiment_id = self._find_experiment(experiment) or self._create_experiment(experiment)
        run_id = self._find_run(experiment_id, job_id)
        if run_id is not None:
            self._post("runs/update", {"run_id": run_id, "status": "RUNNING"})
            return run_id
        labels = [{"key": key, "value": value} for key, value in {**tags, _JOB: job_id}.items()]
        order = {"experiment_id": experiment_id, "run_name": name, "start_time": now(), "tags": labels}
        return _pick(self._post("runs/create", order), "run", "info", "run_id")

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """At most 100. A run's parameter keeps its first value; another one is refused."""
        self._post("runs/log-batch", {"run_id": run_id, "params": [{"key": k, "value": v} for k, v in params.items()]})

    def log_metrics(self, run_id: str, metrics: Sequence[Metric]) -> None:
        """At most 1000."""
        self._post("runs/log-batch", {"run_id": run_id, "metrics": [asdict(metric) for metric in metrics]})

    def end_run(self, run_id: str, state: str) -> None:
        """`state`: FINISHED, FAILED or KILLED."""
        self._post("runs/update", {"run_id": run_id, "status": state, "end_time": now()})

    def _find_experiment(self, name: str) -> str | None:
        try:
            answer = self._call("GET", "experiments/get-by-name", params={"experiment_name": name})
        except Refused as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise
        return _pick(answer, "experiment", "experiment_id")

    def _create_experiment(self, name: str) -> str:
        return _pick(self._post("experiments/create", {"name": name}), "experiment_id")

    def _find_run(self, experiment_id: str, job_id: str) -> str | None:
        order = {"experiment_ids": [experiment_id], "filter": f"tags.`{_JOB}` = '{job_id}'", "max_results": 1}
        answer = self._post("runs/search", order)  # without `runs` if there is none
        return _pick(answer["runs"][0], "info", "run_id") if answer.get("runs") else None

    def _post(self, path: str, order: dict[str, Any]) -> dict[str, Any]:
        return self._call("POST", path, json=order)

    def _call(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        """No error names the URL, and the one that httpx logs is bare: it may hold a password."""
        try:
            url = httpx.URL(f"{self._url}/api/2.0/mlflow/{path}")
            auth = (url.username, url.password) if url.userinfo else None
            response = self._client.request(method, url.copy_with(userinfo=b""), auth=auth, **content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"{path} got no answer ({type(error).__name__})") from None
        if response.is_client_error and response.status_code not in _LATER:
            raise Refused(path, response)
        try:
            answer = response.json() if response.is_success else None
        except ValueError:  # a page of something else that listens there
            answer = None
        if not isinstance(answer, dict):
            raise Unavailable(f"{path} was answered with {response.status_code} and nothing that MLflow would say")
        return answer


def now() -> int:
    """As MLflow counts: ms since 1970."""
    return time.time_ns() // 1_000_000


def _pick(answer: Mapping[str, Any], *path: str) -> str:
    """The text at the end of the path. Raises Unavailable if the answer is not built so."""
    value: Any = answer
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(value, str):
        raise Unavailable(f"the answer has no {'.'.join(path)}: no tracking server of MLflow?")
    return value
