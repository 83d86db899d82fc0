"""The operator's command line that looks whether all is as it must be: `flask --app wsgi doctor`."""

from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

import click
from flask.cli import with_appcontext
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from common import (
    billing_invariants,
    event_invariants,
    ids,
    invariants,
    mail_invariants,
    metering_invariants,
    people_invariants,
    work_invariants,
)
from common.invariants import Finding

EXIT_STATUS_FOUND = 1
EXIT_STATUS_COULD_NOT_LOOK = 2

WHOLE: tuple[Callable[[Connection], list[Finding]], ...] = (
    work_invariants.quotas,
    work_invariants.claims,
    work_invariants.orphans,
    work_invariants.pending_work,
    mail_invariants.mails,
    people_invariants.owners,
    people_invariants.plans_of_accounts,
    billing_invariants.billing,
    metering_invariants.outbox,
    metering_invariants.receipts,
)


@click.command("doctor")
@click.option("--batch", "batch_ids", multiple=True, help="Look at this batch or single job alone; may be repeated.")
@click.option(
    "--files", is_flag=True, help="Compare the sizes of output and error files too, which reads every answer."
)
@with_appcontext
def doctor(batch_ids: tuple[str, ...], files: bool) -> None:
    """Check every invariant on the live database, and change nothing.

    Prints a line for whatever is off and exits with 1; with 0 when nothing is, and with 2 when it could not look.
    Everything is read in one snapshot, so that work in progress is no matter. Without --batch every row is read once,
    which takes about half a minute a million rows, and PostgreSQL keeps what is deleted meanwhile.
    """
    wanted = [_batch_id(shown) for shown in batch_ids]
    counted = found = 0
    try:
        with invariants.snapshot() as connection:
            for page in [wanted] if wanted else invariants.batch_pages(connection):
                counted += len(page)
                found += _show(_of_page(connection, page, files))
            if not wanted:
                found += sum(_show(check(connection)) for check in WHOLE)
    except SQLAlchemyError as error:
        click.echo(f"could not look: {error}", err=True)
        raise SystemExit(EXIT_STATUS_COULD_NOT_LOOK) from None
    checked = f"{counted} batches and single jobs: results, usage records, counters, reservations, claims, events"
    checked += ", files" if files else ""
    if not wanted:
        checked += "; quotas, leases, orphans, tickets, tasks, ingests, mails, owners, plans, bills and meters"
    click.echo(f"checked {checked}: {found or 'nothing'} off")
    if found:
        raise SystemExit(EXIT_STATUS_FOUND)


def _batch_id(shown: str) -> UUID:
    found = ids.parse("batch_", shown) or ids.parse("job_", shown)
    if found is None:
        raise click.UsageError(f"{shown!r} is no id of a batch or of a single job.")
    return found


def _of_page(connection: Connection, page: Sequence[UUID], files: bool) -> Iterator[Finding]:
    yield from invariants.of_batches(connection, page)
    yield from event_invariants.events(connection, page)
    if files:
        yield from invariants.file_sizes(connection, page)


def _show(findings: Iterator[Finding] | Sequence[Finding]) -> int:
    """How many there were."""
    shown = 0
    for finding in findings:
        click.echo(str(finding))
        shown += 1
    return shown
