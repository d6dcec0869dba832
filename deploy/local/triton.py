"""The model server: Triton, from the nvidia-pytriton wheel in an environment of its own (it needs numpy 1)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from deploy.local import proctree
from deploy.local.errors import ServerNotInstalled
from deploy.local.home import Home, Server
from deploy.local.process import Process

DEFAULT_VENV = Path(__file__).resolve().parents[2] / ".venv-triton"
EXIT_TIMEOUT_S = 5  # a request that met a dead stub is never released: without a limit, such a server waits for it
ABANDONED_AFTER_S = 600
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # where shm_open makes its files
MODELS_UNPACKED = Path("/tmp")  # noqa: S108  # Triton knows no other place for models that are sent to it

# Run by the environment's own interpreter: where its packages and its libpython are.
ASK = """
import importlib.util, json, os, sys, sysconfig
spec = importlib.util.find_spec("pytriton")
print(json.dumps({
    "site": os.path.dirname(os.path.dirname(spec.origin)) if spec else None,
    "libpython": sysconfig.get_config_var("LIBDIR"),
    "version": "%d.%d" % sys.version_info[:2],
}))
"""


@dataclass(frozen=True)
class Installation:
    """Where the parts of Triton lie."""

    venv: Path
    site: Path  # the environment's site-packages
    libpython: str
    version: str  # of Python, such as 3.11

    @property
    def triton(self) -> Path:
        """The folder of Triton's programs inside the wheel."""
        return self.site / "pytriton" / "tritonserver"

    def environment(self) -> dict[str, str]:
        """What the server and its Python stubs need to find their libraries, and only those."""
        return {
            "PATH": f"{self.venv / 'bin'}:{os.environ.get('PATH', os.defpath)}",
            "LD_LIBRARY_PATH": f"{self.site / 'nvidia_pytriton.libs'}:{self.libpython}",
            "PYTHONPATH": "",  # one that leads to our numpy 2 makes every output tensor empty, without an error
            "PYTHONHOME": "",
            "PYTHONUNBUFFERED": "1",
            "MALLOC_ARENA_MAX": "2",  # from many arenas, its memory grows with the number of requests
        }


def server(home: Home) -> Server:
    """Triton on ports of its own, with no model: models are loaded and unloaded through its API."""
    installation = find()
    folder = home.folder("triton")
    (folder / "repository").mkdir(exist_ok=True)
    _link_backend(installation, folder / "backends")
    shm_prefix = f"overtile_{home.secrets.instance}_"
    ports = {protocol: home.port(f"triton-{protocol}") for protocol in ("grpc", "http", "metrics")}
    argv = [str(installation.triton / "bin" / "tritonserver"), "--model-control-mode=explicit"]
    argv += [f"--model-repository={folder / 'repository'}", f"--backend-directory={folder / 'backends'}"]
    argv += [f"--backend-config=python,shm-region-prefix-name={shm_prefix}", f"--exit-timeout-secs={EXIT_TIMEOUT_S}"]
    for protocol, port in ports.items():
        argv += [f"--{protocol}-address=127.0.0.1", f"--{protocol}-port={port}"]
    url = f"127.0.0.1:{ports['grpc']}"
    process = Process(
        "triton",
        argv,
        log=home.log("triton"),
        env=installation.environment(),
        healthy=lambda: _ask_ready(url),
        stop_patience_s=EXIT_TIMEOUT_S + 10,
        before_start=lambda: _sweep(shm_prefix),
        keep_open=[home.lock],
    )
    return Server(process, {"OVERTILE_TRITON_URL": url})


def find() -> Installation:
    """The environment named by OVERTILE_TRITON_VENV, else `.venv-triton` in the repository's root."""
    venv = Path(os.environ.get("OVERTILE_TRITON_VENV") or DEFAULT_VENV)
    python = venv / "bin" / "python"
    if not python.exists():
        raise ServerNotInstalled(f"no model server in {venv}; mend: make setup, or set OVERTILE_TRITON_VENV")
    answer = json.loads(subprocess.run([python, "-I", "-c", ASK], capture_output=True, check=True).stdout)
    if answer["site"] is None:
        raise ServerNotInstalled(f"{venv} has no nvidia-pytriton; mend: make setup")
    return Installation(venv.absolute(), Path(answer["site"]), answer["libpython"], answer["version"])


def _link_backend(installation: Installation, backends: Path) -> None:
    """The Python backend and the stub that fits the Python version, side by side as Triton wants them."""
    folder = backends / "python"
    folder.mkdir(parents=True, exist_ok=True)
    stub = installation.triton / "python_backend_stubs" / installation.version / "triton_python_backend_stub"
    if not stub.exists():
        raise ServerNotInstalled(f"nvidia-pytriton has no stub for Python {installation.version}: {stub} is missing")
    for part in [*(installation.triton / "backends" / "python").iterdir(), stub]:
        link = folder / part.name
        link.unlink(missing_ok=True)
        link.symlink_to(part)


def _sweep(shm_prefix: str) -> None:
    """Remove what a killed server, or one whose stub died, leaves behind: shared memory and the files of its models."""
    for region in SHARED_MEMORY.glob(f"{shm_prefix}*"):
        region.unlink(missing_ok=True)
    for folder in MODELS_UNPACKED.glob("folder??????"):
        if _is_abandoned_model(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned_model(folder: Path) -> bool:
    """Whether it is a model that some Triton unpacked there (the place is fixed), of our user, that no stub runs."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return False
    if status.st_uid != os.getuid() or time.time() - status.st_mtime < ABANDONED_AFTER_S:
        return False  # ours to remove only then; another user's folder may not even be looked into
    is_model = (folder / "config.pbtxt").is_file() and any(folder.glob("*/model.py"))
    return is_model and not proctree.anyone_names(str(folder))


def _ask_ready(url: str) -> None:
    grpc: Any = import_module("tritonclient.grpc")  # here, so that importing this package stays cheap; it has no types
    with grpc.InferenceServerClient(url) as client:  # a new channel each time: an old one backs off for seconds
        if not (client.is_server_live(client_timeout=2) and client.is_server_ready(client_timeout=2)):
            raise ConnectionError("it is up, but not live and ready")
