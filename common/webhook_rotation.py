"""Another secret in the place of one that signs: for an overlap both do."""

from datetime import datetime, timedelta

from common.errors import Conflict, InvalidRequest

MAX_OVERLAP = timedelta(days=7)
DEFAULT_OVERLAP = timedelta(days=1)


def check(overlap: timedelta, previous_until: datetime | None) -> None:
    """Raises InvalidRequest for an overlap that is none, and Conflict where one before still signs, which a receiver
    may go by: that is never ended without a word. `previous_until` is until when it signs, None where none does."""
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        seconds = int(MAX_OVERLAP.total_seconds())
        raise InvalidRequest(f"overlap_seconds is from 0 to {seconds:,}.", param="overlap_seconds")
    if previous_until is not None and overlap:
        raise Conflict(
            f"It was rotated already, and the secret before signs until {previous_until:%Y-%m-%dT%H:%M:%SZ}: wait for"
            " that, or send overlap_seconds 0, which ends every secret but the new one now.",
            param="overlap_seconds",
            code="rotation_under_way",
        )
