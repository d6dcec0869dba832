"""Tie a program's life to its parent's, then become that program.

    python -I -S leash.py PARENT_PID SIGNAL UID GID PROGRAM ARGUMENT…

The kernel sends SIGNAL to the program when its parent dies, however that happens. Run as a file of its own, not as a
`preexec_fn`: code between fork and exec can deadlock in a parent that has threads. It imports nothing of this project.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Never returns: the process becomes the program, or ends because its parent is already gone."""
    parent, death_signal, uid, gid = (int(word) for word in sys.argv[1:5])
    program = sys.argv[5:]
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores the last two, and an exec would hand that on
    if uid != os.getuid():
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # after setuid, because a change of credentials clears it
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit("the parent died before this program began")  # no signal will come for a death that is past
    try:
        os.execv(program[0], program)  # noqa: S606  # the words were given as a list, by our own code
    except OSError as problem:
        sys.exit(f"cannot run {program[0]}: {problem}")


if __name__ == "__main__":
    main()
