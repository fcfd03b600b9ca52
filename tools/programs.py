"""Where programs are found: never in the directory that is being worked on."""

from __future__ import annotations

import os
import shutil
from functools import cache


def search_path() -> str:
    """Return PATH without its relative parts, which would name files of the workspace."""
    given = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(part for part in given if os.path.isabs(part))


@cache
def find(name: str) -> str | None:
    """Return the full path of the program `name`, or None if it is not installed."""
    return shutil.which(name, path=search_path())
