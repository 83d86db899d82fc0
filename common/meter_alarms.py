"""Alarms of metering: what keeps usage from Stripe is told while it can still be mended."""

import logging
from datetime import timedelta

from sqlalchemy import text

from common import mails, metering_invariants
from common.database import as_owner
from common.settings import settings

log = logging.getLogger(__name__)

BETWEEN_MAILS = timedelta(days=1)
MOST_SHOWN = 20


def raise_alarms() -> int:
    """Logs what is off, and mails it to the operator, at most once a day. Returns how many findings there are."""
    with as_owner() as connection:
        findings = metering_invariants.outbox(connection)
        for finding in findings[:MOST_SHOWN]:
            log.error("usage is not reaching Stripe: %s", finding)
        operator = settings().operator_email
        # In one transaction with the mail: of several processes one writes it.
        if findings and operator is not None and connection.execute(_MAIL_IS_DUE, {"between": BETWEEN_MAILS}).rowcount:
            more = len(findings) - MOST_SHOWN
            lines = [str(finding) for finding in findings[:MOST_SHOWN]] + [f"... and {more} more"] * (more > 0)
            mails.write(connection, operator, "metering_alarm", {"problem": "\n".join(lines)})
    return len(findings)


_MAIL_IS_DUE = text("""
    UPDATE metering SET alarmed_at = clock_timestamp()
    WHERE coalesce(alarmed_at < clock_timestamp() - CAST(:between AS interval), true)
""")
