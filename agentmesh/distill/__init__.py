"""Distillation: choose what to learn from, train a student, measure it, promote it, watch it.

`distil` does the loop in one call; each of its stages can be used alone. Nothing heavy is
imported before its use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentmesh.distill.evaluate import Comparison, Run, agree, compare, run_of
    from agentmesh.distill.feedback import give
    from agentmesh.distill.formats import Example, Manifest, export, read_examples
    from agentmesh.distill.leaks import Contamination, Row, contamination, rows_of
    from agentmesh.distill.lifecycle import Register
    from agentmesh.distill.local import LocalStudent
    from agentmesh.distill.log import read_traces
    from agentmesh.distill.loop import Held, Loop, distil, measure
    from agentmesh.distill.redact import Redactor
    from agentmesh.distill.selection import Choice, Policy, select, to_examples
    from agentmesh.distill.serve import StudentModel
    from agentmesh.distill.shadow import Shadow
    from agentmesh.distill.splits import Split, check_split, split
    from agentmesh.distill.student import Guess, Student
    from agentmesh.distill.terms import Ruling, check_terms, terms_of
    from agentmesh.distill.traces import Outcome, Trace, conversation_traces, read_rows
    from agentmesh.distill.version import Version
    from agentmesh.distill.watch import Advice, Watch

__all__ = [
    "Advice",
    "Choice",
    "Comparison",
    "Contamination",
    "Example",
    "Guess",
    "Held",
    "LocalStudent",
    "Loop",
    "Manifest",
    "Outcome",
    "Policy",
    "Redactor",
    "Register",
    "Row",
    "Ruling",
    "Run",
    "Shadow",
    "Split",
    "Student",
    "StudentModel",
    "Trace",
    "Version",
    "Watch",
    "agree",
    "check_split",
    "check_terms",
    "compare",
    "contamination",
    "conversation_traces",
    "distil",
    "export",
    "give",
    "measure",
    "read_examples",
    "read_rows",
    "read_traces",
    "rows_of",
    "run_of",
    "select",
    "split",
    "terms_of",
    "to_examples",
]

_MODULES = {
    "Advice": "watch",
    "Choice": "selection",
    "Comparison": "evaluate",
    "Contamination": "leaks",
    "Example": "formats",
    "Guess": "student",
    "Held": "loop",
    "LocalStudent": "local",
    "Loop": "loop",
    "Manifest": "formats",
    "Outcome": "traces",
    "Policy": "selection",
    "Redactor": "redact",
    "Register": "lifecycle",
    "Row": "leaks",
    "Ruling": "terms",
    "Run": "evaluate",
    "Shadow": "shadow",
    "Split": "splits",
    "Student": "student",
    "StudentModel": "serve",
    "Trace": "traces",
    "Version": "version",
    "Watch": "watch",
    "agree": "evaluate",
    "check_split": "splits",
    "check_terms": "terms",
    "compare": "evaluate",
    "contamination": "leaks",
    "conversation_traces": "traces",
    "distil": "loop",
    "export": "formats",
    "give": "feedback",
    "measure": "loop",
    "read_examples": "formats",
    "read_rows": "traces",
    "read_traces": "log",
    "rows_of": "leaks",
    "run_of": "evaluate",
    "select": "selection",
    "split": "splits",
    "terms_of": "terms",
    "to_examples": "selection",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"agentmesh.distill.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
