"""Run the servers until Ctrl-C: `python -m deploy.local [DATA_DIRECTORY]`. Prints how to reach them."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from deploy.local import LocalStackError, Stack


def main() -> int:
    """Exit code 0 after Ctrl-C or SIGTERM, 1 if a server did not start."""
    data = Path(sys.argv[1] if len(sys.argv) > 1 else ".overtile")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # be polite: stop in order, as on Ctrl-C
    try:
        with Stack(data) as stack:
            for name, value in stack.environment().items():
                print(f"export {name}='{value}'")
            print("# running; Ctrl-C stops all", flush=True)
            threading.Event().wait()
    except LocalStackError as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
