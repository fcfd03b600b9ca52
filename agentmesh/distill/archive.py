"""Students on disk: skops archives that may hold arrays, texts and vectorizers, and no code."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from agentmesh.errors import ConfigError, CorruptError

FORMAT = "agentmesh-student"
VERSION = 2
TRUSTED: tuple[str, ...] = ()
"""Types beyond those that skops takes for harmless: none. It is a literal, on purpose."""

MAX_BYTES = 500_000_000


def save(path: Path | str, state: dict[str, Any]) -> None:
    """Write a student's state; a reader sees the old file or the new one, whole."""
    from skops.io import dump

    path = Path(path)
    name = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        os.close(handle)
        dump({**state, "format": FORMAT, "format_version": VERSION}, name)
        os.replace(name, path)
    except OSError as error:
        raise ConfigError(
            f"the student cannot be saved to {str(path)!r}: {error.strerror}",
            hint="is the disk full, or the folder read-only?",
        ) from error
    finally:
        if name:
            Path(name).unlink(missing_ok=True)


def load(path: Path | str) -> dict[str, Any]:
    """Return what `save` wrote; anything else is refused before a single object is made."""
    from skops.io import get_untrusted_types
    from skops.io import load as read

    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CorruptError(f"{str(path)!r} is larger than a student may be")
        foreign = sorted(set(get_untrusted_types(file=path)) - set(TRUSTED))
        if foreign:
            raise CorruptError(
                f"{str(path)!r} holds the type {foreign[0]!r}", hint="load only what you saved"
            )
        state = read(path, trusted=list(TRUSTED))
    except OSError as error:
        raise ConfigError(
            f"{str(path)!r} cannot be read: {error.strerror}", hint="is it a student's file?"
        ) from error
    except (BadZipFile, KeyError, ValueError, TypeError, AttributeError, ImportError) as error:
        raise CorruptError(
            f"{str(path)!r} is not a student: {error}", hint="train it anew"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CorruptError(f"{str(path)!r} is not a student", hint="train it anew")
    if state.get("format_version") != VERSION:
        raise ConfigError(
            f"{str(path)!r} has format version {state.get('format_version')!r}, this is {VERSION}",
            hint="train it anew",
        )
    return state
