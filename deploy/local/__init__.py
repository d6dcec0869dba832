"""PostgreSQL, Valkey, S3 and Triton on one machine, from wheels, without root or docker.

    with Stack(Path(".overtile")) as stack:
        subprocess.run(command, env={**os.environ, **stack.environment()})

`Process` runs any other program the same way: it lives no longer than we do.
"""

from deploy.local.errors import LocalStackError, ServerDidNotStart, ServerNotInstalled, StackInUse
from deploy.local.process import Process
from deploy.local.stack import SERVERS, Stack, erase

__all__ = [
    "SERVERS",
    "LocalStackError",
    "Process",
    "ServerDidNotStart",
    "ServerNotInstalled",
    "Stack",
    "StackInUse",
    "erase",
]
