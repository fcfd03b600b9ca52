"""Routing: which tier acts, what a draft must pass, and where a failed step goes.

Importing it loads neither scikit-learn nor skops; they load with the first trained model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentmesh.routing.checks import default_checks, run_checks
from agentmesh.routing.drafts import Check, CheckContext, Draft, DraftCall, ToolFacts
from agentmesh.routing.escalation import escalate
from agentmesh.routing.retry import (
    RetryBudget,
    RetryPolicy,
    StepLimits,
    acall_with_retry,
    call_with_retry,
)
from agentmesh.routing.router import Router
from agentmesh.routing.rules import Rule, Rules
from agentmesh.routing.seeds import Example, read_examples, seeds
from agentmesh.routing.steps import (
    KINDS,
    Decision,
    Failure,
    Kind,
    Step,
    TierFacts,
    TierPrices,
    Verdict,
)

if TYPE_CHECKING:
    from agentmesh.routing.classifier import Recipe, TextClassifier
    from agentmesh.routing.spam import SpamFilter

_LAZY = {
    "Recipe": "classifier",
    "SpamFilter": "spam",
    "TextClassifier": "classifier",
}

__all__ = [
    "KINDS",
    "Check",
    "CheckContext",
    "Decision",
    "Draft",
    "DraftCall",
    "Example",
    "Failure",
    "Kind",
    "Recipe",
    "RetryBudget",
    "RetryPolicy",
    "Router",
    "Rule",
    "Rules",
    "SpamFilter",
    "Step",
    "StepLimits",
    "TextClassifier",
    "TierFacts",
    "TierPrices",
    "ToolFacts",
    "Verdict",
    "acall_with_retry",
    "call_with_retry",
    "default_checks",
    "escalate",
    "read_examples",
    "run_checks",
    "seeds",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
