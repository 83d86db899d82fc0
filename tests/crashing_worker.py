"""A worker whose process dies of every row with a certain word in it, as of a fault in this program or for want of
memory: the real worker, but for that. Started as `python -m tests.crashing_worker`."""

import os
import signal

from worker import main
from worker.calls import Caller, Progress
from worker.claims import Claim, ClaimedJob
from worker.outcomes import Outcome

WORD = b"poison"
_run = Caller.run


async def run(self: Caller, claim: Claim, job: ClaimedJob, progress: Progress) -> Outcome | None:
    if WORD in job.body:
        os.kill(os.getpid(), signal.SIGKILL)
    return await _run(self, claim, job, progress)


if __name__ == "__main__":
    Caller.run = run  # type: ignore[method-assign]
    main.main()
