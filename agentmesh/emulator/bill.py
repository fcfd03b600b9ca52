"""What the emulated vendor charges: one line for each request."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from agentmesh.economy.usage import Usage
from agentmesh.emulator.brain import Api


@dataclass(frozen=True, slots=True)
class Bill:
    """One request's line on the invoice.

    `cost_micro` is in micro-dollars, None where the model's price is unknown; a request that was
    refused costs nothing. `fault` names what was made to go wrong on the way back.
    """

    id: str
    api: Api
    model: str
    key: str
    usage: Usage
    cost_micro: int | None
    at: float
    status: int
    stream: bool
    fault: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the bill as JSON has it; the key is shortened."""
        return {**asdict(self), "key": self.key[:8]}
