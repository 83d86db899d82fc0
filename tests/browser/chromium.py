"""Where Chromium is: as CHROMIUM says, on the PATH, or in a package of npm's registry, for a machine that has none.

Playwright's own builds come from a server of its own, which not every network reaches.
"""

import fcntl
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from tests import node_packages
from tests.node_packages import MissingError

FOLDER = Path(__file__).parent / "chromium"
# Goes with the package that it comes from.
UNPACKED = FOLDER / "node_modules" / ".unpacked"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
UNPACK_SECONDS = 300
# The package's own looks for its fonts in /tmp alone, and without any font Chromium dies.
FONTS = f"""<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{escape(str(UNPACKED))}/fonts/fonts</dir>
  <cachedir>{escape(str(UNPACKED))}/fonts/cache</cachedir>
</fontconfig>
"""
UNPACK = 'import chromium from "@sparticuz/chromium"; await chromium.executablePath()'
# With this the package unpacks the libraries that a bare machine lacks, too.
OF_A_BARE_MACHINE = {"AWS_EXECUTION_ENV": "AWS_Lambda_nodejs22.x"}


@dataclass(frozen=True, slots=True)
class Chromium:
    """A browser's program, and what its environment needs beside the usual."""

    program: Path
    env: Mapping[str, str] = field(default_factory=dict)


def find() -> Chromium:
    """Raises MissingError, saying how to get one."""
    if given := os.environ.get("CHROMIUM"):
        if found := shutil.which(given):
            return Chromium(Path(found))
        raise MissingError(f"CHROMIUM is {given}, which is no program.")
    if found := next(filter(None, map(shutil.which, NAMES)), None):
        return Chromium(Path(found))
    return _packaged()


def _packaged() -> Chromium:
    with (FOLDER / ".lock").open("w") as lock:
        # Another process of the suite may be at it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        node_packages.install(FOLDER, "Chromium")
        if not UNPACKED.is_dir():
            _unpack()
    env = {"LD_LIBRARY_PATH": str(UNPACKED / "al2023" / "lib"), "FONTCONFIG_PATH": str(UNPACKED / "fonts")}
    return Chromium(UNPACKED / "chromium", env)


def _unpack() -> None:
    """Into its place at once: what is cut off is no browser."""
    draft = UNPACKED.with_name(".unpacking")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    env = OF_A_BARE_MACHINE | {"TMPDIR": str(draft)}
    done = node_packages.run(FOLDER, ["--input-type=module", "--eval", UNPACK], env, UNPACK_SECONDS)
    if done.returncode != 0:
        raise MissingError(f"Chromium could not be unpacked: set CHROMIUM to one of this machine.\n{done.stdout}")
    (draft / "fonts" / "fonts.conf").write_text(FONTS)
    draft.rename(UNPACKED)
