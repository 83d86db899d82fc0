"""Where Chromium is: as CHROMIUM says, on the PATH, or in a package of npm's registry, for a machine that has none."""

import os
import shutil
from pathlib import Path

from tests import node_packages
from tests.node_packages import MissingError

FOLDER = Path(__file__).parent / "chromium"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
UNPACK_SECONDS = 300


def executable() -> Path:
    """Raises MissingError, saying how to get one."""
    if given := os.environ.get("CHROMIUM"):
        if found := shutil.which(given):
            return Path(found)
        raise MissingError(f"CHROMIUM is {given}, which is no program.")
    if found := next(filter(None, map(shutil.which, NAMES)), None):
        return Path(found)
    return _packaged()
