"""How far apart the calls are that use a prefix: by this its time to live is chosen.

A session's own calls are kept with its view. Those of the layers that many sessions share are
kept here for a process, which looks into the ledger now and then for what others have called.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Lock

from sqlalchemy import Connection, and_, func, select

from agentmesh import canonical
from agentmesh.economy.planner import Gaps
from agentmesh.memory.tables import calls, epochs

WINDOW = 100
"""Calls that are remembered of each session and of each shared layer, by model."""

LOOK_AGAIN_S = 60.0
_SCANNED = 1_000
_LAYERS = 256

Times = dict[str, list[float]]
"""When the latest calls of each model began."""

Layers = tuple[tuple[str, str], ...]


@dataclass
class _Layer:
    looked_at: float
    times: Times = field(default_factory=dict)


class Rhythm:
    """When the calls of one tenant began that showed the same shared layers."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self._layers: OrderedDict[Layers, _Layer] = OrderedDict()
        self._lock = Lock()

    def stale(self, layers: Layers, now: float) -> bool:
        """Say whether it is time to look into the ledger again."""
        held = self._layers.get(layers)
        return held is None or abs(now - held.looked_at) > LOOK_AGAIN_S

    def look(self, connection: Connection, layers: Layers, now: float) -> None:
        """Learn from the ledger what all processes have called of late."""
        latest = (
            select(calls.c.session_id, calls.c.epoch, calls.c.model, calls.c.started_at)
            .where(
                calls.c.tenant == self._tenant,
                calls.c.id > select(func.max(calls.c.id)).scalar_subquery() - _SCANNED,
                calls.c.fresh + calls.c.read + calls.c.write + calls.c.write_long > 0,
            )
            .subquery()
        )
        same = and_(epochs.c.session_id == latest.c.session_id, epochs.c.number == latest.c.epoch)
        shared = canonical.dumps([list(layer) for layer in layers])
        rows = connection.execute(
            select(latest.c.model, latest.c.started_at)
            .join(epochs, same)
            .where(epochs.c.shared == shared)
            .order_by(latest.c.started_at)
        )
        found = _by_model((row.model, row.started_at) for row in rows)
        with self._lock:
            self._layers[layers] = _Layer(now, found)
            self._layers.move_to_end(layers)
            while len(self._layers) > _LAYERS:
                self._layers.popitem(last=False)

    def note(self, layers: Layers, model: str, at: float) -> None:
        """Remember a call of this process."""
        with self._lock:
            held = self._layers.get(layers)
            if held is not None:
                remember(held.times, model, at)

    def gaps(self, layers: Layers, model: str, own: Mapping[str, list[float]], now: float) -> Gaps:
        """Return the pauses between uses up to a call that begins now."""
        with self._lock:
            held = self._layers.get(layers)
            shared = list(held.times.get(model, ())) if held else []
        return Gaps(_pauses(shared, now), _pauses(own.get(model, ()), now))


def load_times(connection: Connection, session_id: int) -> Times:
    """Return when a session's latest calls began."""
    rows = connection.execute(
        select(calls.c.model, calls.c.started_at)
        .where(
            calls.c.session_id == session_id,
            calls.c.fresh + calls.c.read + calls.c.write + calls.c.write_long > 0,
        )
        .order_by(calls.c.turn.desc(), calls.c.id.desc())
        .limit(WINDOW)
    ).all()
    return _by_model((row.model, row.started_at) for row in reversed(rows))


def remember(times: Times, model: str, at: float) -> None:
    """Add a call, and forget the oldest beyond the window."""
    kept = times.setdefault(model, [])
    kept.append(at)
    del kept[:-WINDOW]


def _by_model(rows: Iterable[tuple[str, float]]) -> Times:
    times: Times = {}
    for model, at in rows:
        remember(times, model, at)
    return times


def _pauses(times: Sequence[float], now: float) -> tuple[float, ...]:
    ordered = sorted(time for time in times if time <= now)
    return tuple(b - a for a, b in pairwise([*ordered, now])) if ordered else ()
