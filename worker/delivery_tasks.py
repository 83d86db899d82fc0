"""What RQ runs in a process that delivers. It may be run twice."""

from worker.deliverer import Deliverer

_deliverer: Deliverer | None = None


def serve_with(deliverer: Deliverer) -> None:
    """Names the deliverer that the tasks of this interpreter act on."""
    global _deliverer
    _deliverer = deliverer


def serve(queue: str) -> None:
    """A ticket: something is due."""
    if _deliverer is None:
        raise RuntimeError("tasks run only in a process started by worker.py")
    _deliverer.wake()
