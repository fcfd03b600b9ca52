"""Reads any student back from where it was saved, whatever its kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentmesh.distill.student import Student


def load(path: Path | str, *, base: Any = None) -> Student:
    """Return a saved student: a folder is a language model, a `.json` hosted, else a classifier.

    Args:
        path: where it was saved.
        base: the base model of an adapter; found by its name where it is left out.

    Raises:
        ConfigError: there is nothing, or it is of another kind.
        CorruptError: it is damaged, or its base model is another one.
    """
    path = Path(path)
    if path.is_dir():
        from agentmesh.distill.language import LanguageStudent

        return LanguageStudent.load(path, base)
    if path.suffix == ".json":
        from agentmesh.distill.hosted import HostedStudent

        return HostedStudent.load(path)
    from agentmesh.distill.local import LocalStudent

    return LocalStudent.load(path)
