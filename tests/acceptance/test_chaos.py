"""The chaos run, small: every kind of disturbance, and the same books at the end. `make chaos` is the whole one."""

import subprocess
import sys

from local.process import ROOT

SMALL = {
    "--seed": 3,
    "--jobs": 900,
    "--workers": 2,
    "--latency-ms": 300,
    "--worker-kills": 3,
    "--web-kills": 2,
    "--deliverer-kills": 2,
    "--redis-flushes": 1,
    "--redis-kills": 1,
    "--most-seconds": 120,
    "--baseline": 0,
}


def test_whatever_dies_under_them_accepted_jobs_end_once_and_are_counted_once() -> None:
    flags = [str(part) for flag in SMALL.items() for part in flag]
    done = subprocess.run([sys.executable, "-m", "chaos", *flags], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stderr}\n{done.stdout}"
