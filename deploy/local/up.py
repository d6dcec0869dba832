"""`make up`: run the platform until Ctrl-C, reviving services that end by themselves."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from deploy.local.box import import_boxed
from deploy.local.errors import LocalStackError
from deploy.local.platform import Platform

DATA = Path(".overtile")
LOOK_SECONDS = 1.0


def main() -> int:
    """Exit code 0 after Ctrl-C or SIGTERM, 1 if something did not start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds everything (default: %(default)s)")
    data = parser.parse_args().data
    for ending in (signal.SIGTERM, signal.SIGINT):  # a shell that starts us in the background has SIGINT ignored
        signal.signal(ending, signal.default_int_handler)
    try:
        with Platform(data) as platform:
            import_boxed(platform)
            _greet(platform)
            while True:
                time.sleep(LOOK_SECONDS)
                for name in platform.revive():
                    log = platform.data / "logs" / f"{name}.log"
                    print(f"{name} ended by itself and was started again; see {log}", flush=True)
    except LocalStackError as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; everything is kept in", data.absolute())
        return 0


def _greet(platform: Platform) -> None:
    print(
        f"\nOvertile runs at {platform.url} (documentation: {platform.url}/docs)\n\n"
        f"    export OVERTILE_URL={platform.url}\n"
        f'    export OVERTILE_API_KEY="$(cat {platform.data}/api-key)"\n'
        f"    {sys.executable}    # the Python in which `from overtile import Client` works\n\n"
        f"Logs are in {platform.data}/logs. Ctrl-C stops everything and keeps the data.",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
