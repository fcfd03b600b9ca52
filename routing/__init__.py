"""Routing: which tier acts, what a draft must pass, and where a failed step goes.

Importing it loads neither scikit-learn nor skops; they load with the first trained model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentmesh.routing.bounds import Contract, quality_contract, upper_bound
from agentmesh.routing.checks import check_tools, default_checks, only, run_checks
from agentmesh.routing.choice import (
    Choice,
    Outlook,
    alone_usd,
    choose,
    expected_costs,
    may_lose,
    stake_usd,
)
from agentmesh.routing.drafts import (
    Check,
    CheckContext,
    Draft,
    DraftCall,
    PastCall,
    ToolFacts,
    past_calls,
)
from agentmesh.routing.drift import Drift, QuantileTracker, drift
from agentmesh.routing.escalation import escalate
from agentmesh.routing.fewshot import FewShot
from agentmesh.routing.guard import Guard
from agentmesh.routing.health import Health, ModelHealth
from agentmesh.routing.judges import Agreement, Judge, LogProbability
from agentmesh.routing.pace import Pace, Rate
from agentmesh.routing.policy import Policy
from agentmesh.routing.retry import (
    Retries,
    RetryBudget,
    RetryPolicy,
    StepLimits,
    acall_with_retry,
    call_with_retry,
)
from agentmesh.routing.router import Router
from agentmesh.routing.rules import Rule, Rules
from agentmesh.routing.seeds import Example, read_examples, seeds
from agentmesh.routing.splits import Leak, Split, clusters, leaks, refuse_leaks, split
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
from agentmesh.routing.streak import Streak

if TYPE_CHECKING:
    from agentmesh.routing.classifier import Recipe, TextClassifier
    from agentmesh.routing.evaluation import (
        Curve,
        Interval,
        auroc,
        better_than_random,
        bootstrap,
        caught_among,
        curve,
        oracle,
        recall_at,
    )
    from agentmesh.routing.passing import Passing
    from agentmesh.routing.scope import Scope
    from agentmesh.routing.spam import SpamFilter
    from agentmesh.routing.steptiers import StepTiers
    from agentmesh.routing.uplift import UpliftModel
    from agentmesh.routing.verifier import Judged, Verifier

_LAZY = {
    "Curve": "evaluation",
    "Interval": "evaluation",
    "Judged": "verifier",
    "Passing": "passing",
    "Recipe": "classifier",
    "Scope": "scope",
    "SpamFilter": "spam",
    "StepTiers": "steptiers",
    "TextClassifier": "classifier",
    "UpliftModel": "uplift",
    "Verifier": "verifier",
    "auroc": "evaluation",
    "better_than_random": "evaluation",
    "bootstrap": "evaluation",
    "caught_among": "evaluation",
    "curve": "evaluation",
    "oracle": "evaluation",
    "recall_at": "evaluation",
}

__all__ = [
    "KINDS",
    "Agreement",
    "Check",
    "CheckContext",
    "Choice",
    "Contract",
    "Curve",
    "Decision",
    "Draft",
    "DraftCall",
    "Drift",
    "Example",
    "Failure",
    "FewShot",
    "Guard",
    "Health",
    "Interval",
    "Judge",
    "Judged",
    "Kind",
    "Leak",
    "LogProbability",
    "ModelHealth",
    "Outlook",
    "Pace",
    "Passing",
    "PastCall",
    "Policy",
    "QuantileTracker",
    "Rate",
    "Recipe",
    "Retries",
    "RetryBudget",
    "RetryPolicy",
    "Router",
    "Rule",
    "Rules",
    "Scope",
    "SpamFilter",
    "Split",
    "Step",
    "StepLimits",
    "StepTiers",
    "Streak",
    "TextClassifier",
    "TierFacts",
    "TierPrices",
    "ToolFacts",
    "UpliftModel",
    "Verdict",
    "Verifier",
    "acall_with_retry",
    "alone_usd",
    "auroc",
    "better_than_random",
    "bootstrap",
    "call_with_retry",
    "caught_among",
    "check_tools",
    "choose",
    "clusters",
    "curve",
    "default_checks",
    "drift",
    "escalate",
    "expected_costs",
    "leaks",
    "may_lose",
    "only",
    "oracle",
    "past_calls",
    "quality_contract",
    "read_examples",
    "recall_at",
    "refuse_leaks",
    "run_checks",
    "seeds",
    "split",
    "stake_usd",
    "upper_bound",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
