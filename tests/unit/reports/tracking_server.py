"""A server that speaks the part of MLflow's REST API that a training uses, and can fail on request."""

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

NOT_FOUND = (404, {"error_code": "RESOURCE_DOES_NOT_EXIST"})
BAD = (400, {"error_code": "INVALID_PARAMETER_VALUE"})

Answer = tuple[int, dict[str, Any]]


@dataclass
class Run:
    experiment_id: str
    name: str
    tags: dict[str, str]
    status: str = "RUNNING"
    params: dict[str, str] = field(default_factory=dict)
    metrics: set[tuple[str, float, int, int]] = field(default_factory=set)  # key, value, timestamp, step

    def list_steps(self, key: str) -> list[tuple[int, float]]:
        return sorted((step, value) for name, value, _, step in self.metrics if name == key)


class TrackingServer(ThreadingHTTPServer):
    """`failing`: the status of every answer for now. `released`: while it is cleared, nothing is answered."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, Run] = {}
        self.calls: list[str] = []
        self.credentials: set[str | None] = set()
        self.failing: int | None = None
        self.released = threading.Event()
        self.released.set()

    def answer(self, path: str, order: dict[str, Any]) -> Answer:
        match path:
            case "experiments/get-by-name":
                known = self.experiments.get(order["experiment_name"])
                return (200, {"experiment": {"experiment_id": known}}) if known else NOT_FOUND
            case "experiments/create":
                self.experiments[order["name"]] = str(len(self.experiments) + 1)
                return 200, {"experiment_id": self.experiments[order["name"]]}
            case "runs/create":
                tags = {tag["key"]: tag["value"] for tag in order["tags"]}
                run_id = f"run-{len(self.runs)}"
                self.runs[run_id] = Run(order["experiment_id"], order["run_name"], tags)
                return 200, {"run": {"info": {"run_id": run_id}}}
            case "runs/search":
                return 200, self._search(order)
            case "runs/update":
                self.runs[order["run_id"]].status = order["status"]
                return 200, {}
            case "runs/log-batch":
                return self._log(self.runs[order["run_id"]], order)
        return NOT_FOUND

    def _search(self, order: dict[str, Any]) -> dict[str, Any]:
        found = [
            {"info": {"run_id": run_id}}
            for run_id, run in self.runs.items()
            if run.experiment_id in order["experiment_ids"]
            and order["filter"] == f"tags.`overtile.job` = '{run.tags['overtile.job']}'"
        ]
        return {"runs": found} if found else {}

    def _log(self, run: Run, order: dict[str, Any]) -> Answer:
        metrics, params = order.get("metrics", []), order.get("params", [])
        changed = any(run.params.get(param["key"], param["value"]) != param["value"] for param in params)
        if len(metrics) > 1000 or len(params) > 100 or changed:
            return BAD
        run.params |= {param["key"]: param["value"] for param in params}
        run.metrics |= {(metric["key"], metric["value"], metric["timestamp"], metric["step"]) for metric in metrics}
        return 200, {}


class _Handler(BaseHTTPRequestHandler):
    server: TrackingServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve({key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()})

    def do_POST(self) -> None:
        assert self.headers["Content-Type"] == "application/json"
        self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _serve(self, order: dict[str, Any]) -> None:
        path = urlsplit(self.path).path.removeprefix("/api/2.0/mlflow/")
        self.server.calls.append(path)
        self.server.credentials.add(self.headers["Authorization"])
        self.server.released.wait(10)
        status, answer = (self.server.failing, {}) if self.server.failing else self.server.answer(path, order)
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""
