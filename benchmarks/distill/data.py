"""Where the public data lies, and how its files are read."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DATA = Path("../shared/data")


def rows(name: str, data: Path = DATA) -> Iterator[dict[str, Any]]:
    """Yield the rows of a data file; ends the program where it is not there."""
    path = data / f"{name}.jsonl"
    if not path.exists():
        sys.exit(f"{path} is not there: give the folder of the public data with --data")
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
