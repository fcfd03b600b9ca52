"""Distillation: choose what to learn from, train a student, measure it, promote it, watch it.

Nothing heavy is imported before its use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MODULES = {
    "Choice": "selection",
    "Example": "formats",
    "Manifest": "formats",
    "Outcome": "traces",
    "Policy": "selection",
    "Redactor": "redact",
    "Ruling": "terms",
    "Trace": "traces",
    "check_terms": "terms",
    "conversation_traces": "traces",
    "export": "formats",
    "give": "feedback",
    "read_examples": "formats",
    "read_rows": "traces",
    "read_traces": "log",
    "select": "selection",
    "terms_of": "terms",
    "to_examples": "selection",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"agentmesh.distill.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
