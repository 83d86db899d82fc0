"""The operator's command line for workers, and for work that is to go on now: `flask --app wsgi workers ...` and
`... requeue ...`."""

import click
from flask.cli import AppGroup, with_appcontext

from common import ids, requeue, workers
from common.audit import COMMAND_LINE
from web.cli import plainly

workers_group = AppGroup("workers", help="Who lives and what they hold; drain one or all.")


@workers_group.command("list")
@plainly
def list_workers() -> None:
    """List the workers, oldest first: name, state, since when, when last heard of, what they hold and until when.

    A worker is dead that was not heard of for 20 s; it is listed for an hour, and as long as it holds claims.
    """
    for worker in workers.known():
        state = "dead" if not worker.alive else "draining" if worker.draining else "alive"
        held = "nothing"
        if worker.lease_until is not None:
            held = f"{worker.claims} claims, {worker.rows} rows until {worker.lease_until:%H:%M:%S}"
        times = f"since {worker.started_at:%Y-%m-%dT%H:%M:%S}  seen {worker.seen_at:%H:%M:%S}"
        click.echo(f"{worker.name}  {state:<8}  {times}  {held}")


@workers_group.command("drain")
@click.argument("name", required=False)
@click.option("--all", "everyone", is_flag=True, help="All that live now.")
@plainly
def drain(name: str | None, everyone: bool) -> None:
    """Ask a worker, or all, to take nothing new, finish its calls, give the rest back, and end with exit status 0.

    It hears of it within seconds, on whatever host. Under `make up` it stays ended; Docker Compose and others that
    restart whatever ends put a new worker in its place, so that draining is how to restart it without a lost call.
    """
    if (name is None) != everyone:
        raise click.UsageError("Name a worker, or say --all.")
    for asked in workers.drain(COMMAND_LINE, name):
        click.echo(f"{asked} drains")


@click.command("requeue")
@click.argument("batch_id")
@with_appcontext
@plainly
def requeue_batch(batch_id: str) -> None:
    """Give back the rows of a batch, or a single job, that workers hold, and put its ticket or task on now.

    Rows under leases are pending again at once, and a cap that held the batch back is looked at again. A worker that
    held rows and lives drops them; its calls in flight are made again by whoever claims them. Nothing else changes:
    results, counters and money stay. Written to the audit log.
    """
    done = requeue.batch(COMMAND_LINE, ids.parse("batch_", batch_id) or ids.parse("job_", batch_id))
    click.echo(f"{done.rows} rows of {done.claims} claims given back; put on: {done.put_on}")
