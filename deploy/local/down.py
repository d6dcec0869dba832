"""`make down`: end a platform that runs in another terminal, and wait until it is gone."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from deploy.local import lock
from deploy.local.errors import StackInUse
from deploy.local.up import DATA

PATIENCE_SECONDS = 90.0  # blocks may finish, then the servers stop


def main() -> int:
    """Exit code 0 when nothing runs any more, 1 if it would not end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="its folder (default: %(default)s)")
    path = parser.parse_args().data / "lock"
    holder = lock.find_holder(path)
    if holder is None:
        print("nothing runs in", path.parent.absolute())
        return 0
    os.kill(holder, signal.SIGTERM)
    try:
        os.close(lock.acquire(path, patience_s=PATIENCE_SECONDS, wait_for_holder=True))
    except StackInUse as problem:
        print(problem, file=sys.stderr)
        return 1
    print("stopped; everything is kept in", path.parent.absolute())
    return 0


if __name__ == "__main__":
    sys.exit(main())
