"""`python -m chaos [--seed N] [--jobs N] [--worker-kills N] ...`: breaks a stack, and prints what came of its jobs.

Exits 1 when a figure is not as asked. `--help` lists the sizes; the seed is printed, and given again it repeats a run.
"""

import sys

from chaos import billed, checks
from chaos.figures import table
from chaos.rig import started
from chaos.run import Overdue, Run, disturbed, tell, undisturbed
from chaos.sizes import Sizes


def main() -> None:
    sizes = Sizes.from_arguments(sys.argv[1:])
    tell(f"chaos: {sizes.repeated_by()}")
    try:
        alone = _undisturbed(sizes) if sizes.baseline else None
        tell("disturbed ...")
        with started(sizes) as rig:
            run = disturbed(rig, sizes)
            figures = [
                *checks.times(sizes, alone, run),
                *checks.jobs(rig, sizes, run),
                *checks.calls(rig, run),
                *checks.sums(rig),
                *billed.metered(rig),
                *checks.doctor(rig),
            ]
    except Overdue as overdue:
        sys.exit(f"chaos: {overdue}; seed {sizes.seed}")
    for refusal in run.accepted.refused:
        tell(f"refused: {refusal}")
    print(f"{table(figures)}\nrepeat with: {sizes.repeated_by()}")
    sys.exit(1 if any(figure.wrong for figure in figures) else 0)


def _undisturbed(sizes: Sizes) -> Run:
    tell("undisturbed ...")
    with started(sizes) as rig:
        return undisturbed(rig, sizes)


if __name__ == "__main__":
    main()
