"""How rows end that get no answer because their batch stops: it was cancelled, or its time is over."""

from typing import Literal

Stopped = Literal["cancelled", "expired"]

STOPPED_BY_STATE: dict[str, Stopped] = {"cancelling": "cancelled", "expiring": "expired"}


def reason(stopped: Stopped, single: bool) -> tuple[str, str]:
    """Code and message of such a row; the codes of a batch's rows are those of the Batch API."""
    if single and stopped == "cancelled":
        return "cancelled", "The job was cancelled."
    if single:
        return "job_expired", "The time that expires_in gave the job ended before it had its answer."
    if stopped == "cancelled":
        return "batch_cancelled", "The batch was cancelled before this row had its answer."
    return "batch_expired", "The batch's completion window ended before this row had its answer."
