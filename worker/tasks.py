"""What RQ runs. Each takes ids, calls one verb of the process it runs in, and may be run twice."""

from uuid import UUID

from worker.process import WorkerProcess

_process: WorkerProcess | None = None


def serve_with(process: WorkerProcess) -> None:
    """Names the process that the tasks of this interpreter act on."""
    global _process
    _process = process


def serve(plan: str) -> None:
    """A ticket: the plan has work."""
    _current().serve(plan)


def ingest(batch_id: str) -> None:
    _current().ingest(UUID(batch_id))


def close(batch_id: str) -> None:
    _current().close(UUID(batch_id))


def retry(batch_id: str) -> None:
    _current().retry(UUID(batch_id))


def _current() -> WorkerProcess:
    if _process is None:
        raise RuntimeError("tasks run only in a process started by worker.py")
    return _process
