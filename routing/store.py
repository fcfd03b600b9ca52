"""Models on disk: skops archives that may hold nothing but arrays, texts and vectorizers."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from agentmesh.errors import ConfigError

FORMAT = "agentmesh-router"
VERSION = 1
TRUSTED: tuple[str, ...] = ()
"""Types beyond those that skops itself takes for harmless: none. It is a literal, on purpose."""
MAX_BYTES = 200_000_000
ROUTER = "router"
"""What a file holds that does not say: those of the first version did not."""


def save(path: str | Path, state: dict[str, Any], *, holds: str = ROUTER) -> None:
    """Write `state` to `path` in one step: a reader sees the old file or the new one."""
    from skops.io import dump

    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, suffix=".part")
        os.close(handle)
        try:
            about = {"format": FORMAT, "format_version": VERSION, "holds": holds}
            dump({**about, **state}, name)
            Path(name).replace(target)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the {holds} cannot be saved to {str(target)!r}: {error}",
            hint="give a path in a folder that can be written",
        ) from error


def load(path: str | Path, *, holds: str = ROUTER) -> dict[str, Any]:
    """Read what `save` wrote; anything else is refused before a single object is made."""
    from skops.io import get_untrusted_types
    from skops.io import load as read

    target = Path(path)
    try:
        if target.stat().st_size > MAX_BYTES:
            raise _foreign(target, holds, f"it is larger than {MAX_BYTES} bytes")
        foreign = sorted(set(get_untrusted_types(file=target)) - set(TRUSTED))
        if foreign:
            raise _foreign(target, holds, f"it holds the type {foreign[0]!r}")
        state = read(target, trusted=list(TRUSTED))
    except OSError as error:
        raise ConfigError(
            f"the {holds} file {str(target)!r} cannot be read: {error}",
            hint=f"give the path of a file that `{holds.title()}.save` wrote",
        ) from error
    except (BadZipFile, KeyError, ValueError, TypeError, AttributeError, ImportError) as error:
        raise _foreign(target, holds, str(error) or type(error).__name__) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise _foreign(target, holds, f"it was not written by `{holds.title()}.save`")
    if state.get("holds", ROUTER) != holds:
        raise _foreign(target, holds, f"it holds a {state.get('holds', ROUTER)}")
    if state.get("format_version") != VERSION:
        raise ConfigError(
            f"the {holds} file {str(target)!r} has format version "
            f"{state.get('format_version')!r}, this is version {VERSION}",
            hint=_AGAIN[holds],
        )
    return state


def incomplete(path: str | Path, error: Exception, *, holds: str = ROUTER) -> ConfigError:
    """Return the error on a file that is one of ours, but does not hold all that it should."""
    return ConfigError(
        f"the {holds} file {str(path)!r} is incomplete: {error!r}", hint=_AGAIN[holds]
    )


_AGAIN = {
    ROUTER: "train it again: agentmesh route train",
    "verifier": "train it again: agentmesh route learn",
}


def _foreign(path: Path, holds: str, why: str) -> ConfigError:
    return ConfigError(
        f"{str(path)!r} is not a {holds} file, or was tampered with: {why}",
        hint=f"load only files that `{holds.title()}.save` wrote; train a new one if in doubt",
    )
