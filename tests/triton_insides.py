"""A running Triton: looked into, and hurt."""

import psutil
import tritonclient.grpc as triton

from deploy.local.stack import Stack
from tests.processes import eventually


def kill_engine(servers: Stack, name: str) -> None:
    """SIGKILL the stub process that runs the model's Python backend, and that alone."""
    triton_process = psutil.Process(servers.process("triton").pid)
    living = [child for child in triton_process.children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
    stubs = [child for child in living if any(name in part for part in child.cmdline())]
    assert stubs, f"nothing runs {name}"
    for stub in stubs:
        stub.kill()
    assert eventually(lambda: all(has_ended(stub) for stub in stubs))


def has_ended(process: psutil.Process) -> bool:
    """Dead, though perhaps never collected: Triton does not."""
    return not process.is_running() or bool(process.status() == psutil.STATUS_ZOMBIE)


def regions(url: str) -> set[str]:
    """Those that Triton knows."""
    with triton.InferenceServerClient(url) as client:
        return set(client.get_system_shared_memory_status().regions)
