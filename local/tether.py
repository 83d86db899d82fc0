"""Becomes another program that cannot outlive the one that started it.

Run as a script, `tether.py PARENT_PID SIGNAL USER COMMAND...`, instead of a preexec_fn, which is unsafe where the
starting program has threads. USER is `uid:gid`, or `-` to stay who we are.
"""

import ctypes
import os
import resource
import sys

PR_SET_PDEATHSIG = 1
OPEN_FILES = 65_536


def main() -> None:
    parent, signal_number, user, *command = sys.argv[1:]
    _allow_many_connections()
    # Loaded before the change of user, who may not be able to read our Python.
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if user != "-":
        _become(*map(int, user.split(":")))
    if libc is not None:
        # After the change of user, because that clears the setting.
        libc.prctl(PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("the stack that started this is gone")
    os.execvp(command[0], command)


def _allow_many_connections() -> None:
    """A worker with 1,024 calls in flight needs more than the usual 1,024 open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _become(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    os.chdir("/")


if __name__ == "__main__":
    main()
