"""CPU seconds of processes, with those of every process under them, also of the ones that ended meanwhile."""

import psutil

ATTEMPTS = 20


def cpu_seconds(*pids: int) -> float:
    """User and system time of these processes' trees, since each was started.

    What an ended child used is added to its parent's own account when the parent reaps it, and our trees reap all of
    theirs (gunicorn its workers, the forkserver its ingests, PostgreSQL its sessions), so nothing is missed between
    two readings, and nothing counts twice. Raises psutil.NoSuchProcess when one of `pids` itself has ended.
    """
    for _ in range(ATTEMPTS):
        before = _tree(pids)
        try:
            seconds = sum(_own_and_reaped(process) for process in before)
        except psutil.NoSuchProcess:
            if not all(map(psutil.pid_exists, pids)):
                raise
            continue
        # A child reaped while we read would have been counted in its own name, in its parent's, or in neither.
        if _tree(pids) == before:
            return seconds
    raise RuntimeError("processes come and go too fast to be measured")


def _tree(pids: tuple[int, ...]) -> set[psutil.Process]:
    roots = [psutil.Process(pid) for pid in pids]
    return {process for root in roots for process in (root, *root.children(recursive=True))}


def _own_and_reaped(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system + times.children_user + times.children_system
