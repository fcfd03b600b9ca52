"""LangGraph's `BaseStore` over the buckets, so that its tools and Studio see the same facts.

    store = BucketStore(memory)
    store.put(("profile", "u1"), "language", {"value": "German"})
    memory.profile("u1").get("language")  # "German"

Namespaces are ("profile", user), ("task", session) and ("org", name). LangGraph's values are
dicts and a bucket's are any JSON: what is not a dict is shown as {"value": ...}.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
)
from sqlalchemy import select

from agentmesh.errors import InputError
from agentmesh.memory import items
from agentmesh.memory.buckets import Bucket
from agentmesh.memory.items import KINDS, Source
from agentmesh.memory.memory import Memory
from agentmesh.memory.tables import bucket_items, buckets
from agentmesh.memory.twins import run

Namespace = tuple[str, ...]

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


class BucketStore(BaseStore):
    """Profile, Task and organisation facts as a LangGraph store.

    A search by `query` ranks items by the words that they share with it; there are no
    embeddings. Vector indices and times to live are not supported.

    Args:
        memory: whose buckets to show; nothing of another tenant is reached.
        source: who writes through this store, which decides the trust of what it writes.
    """

    supports_ttl = False

    def __init__(self, memory: Memory, *, source: Source = "agent") -> None:
        self._memory = memory
        self._source = source

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations in order."""
        return [self._run(op) for op in ops]

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations in order, without blocking the event loop."""
        return await run(partial(self.batch, list(ops)))

    def _run(self, op: Op) -> Result:
        match op:
            case GetOp():
                held = self._bucket(op.namespace).item(op.key)
                return None if held is None else _item(op.namespace, held)
            case PutOp():
                self._put(op)
                return None
            case SearchOp():
                return self._search(op)
            case ListNamespacesOp():
                return self._namespaces(op)
        raise InputError(f"unknown operation {op!r}", hint="get, put, search or list_namespaces")

    def _put(self, op: PutOp) -> None:
        bucket = self._bucket(op.namespace)
        if op.value is None:
            bucket.delete(op.key, source=self._source)
        else:
            bucket.set(op.key, _inner(op.value), source=self._source)

    def _search(self, op: SearchOp) -> list[SearchItem]:
        found: list[SearchItem] = []
        for namespace in self._held():
            if namespace[: len(op.namespace_prefix)] != op.namespace_prefix:
                continue
            for held in self._bucket(namespace).items():
                item = _item(namespace, held)
                if _matches(item.value, op.filter or {}):
                    found.append(_scored(item, op.query))
        if op.query:
            found.sort(key=lambda item: -(item.score or 0.0))
        return found[op.offset : op.offset + op.limit]

    def _namespaces(self, op: ListNamespacesOp) -> list[Namespace]:
        conditions = op.match_conditions or ()
        fitting = (n for n in self._held() if all(_fits(n, one) for one in conditions))
        cut = sorted({n if op.max_depth is None else n[: op.max_depth] for n in fitting})
        return cut[op.offset : op.offset + op.limit]

    def _held(self) -> list[Namespace]:
        """Return the namespaces that hold anything."""
        query = (
            select(buckets.c.kind, buckets.c.owner)
            .join(bucket_items, bucket_items.c.bucket_id == buckets.c.id)
            .where(
                buckets.c.tenant == self._memory.tenant,
                buckets.c.kind.in_(KINDS),
                bucket_items.c.superseded_by.is_(None),
                bucket_items.c.value.is_not(None),
            )
            .distinct()
            .order_by(buckets.c.kind, buckets.c.owner)
        )
        rows = self._memory.database.read(lambda c: c.execute(query).all())
        return [(row.kind, row.owner) for row in rows]

    def _bucket(self, namespace: Namespace) -> Bucket:
        if len(namespace) != 2 or namespace[0] not in KINDS:
            raise InputError(
                f"{namespace!r} is not a bucket",
                hint='("profile", user), ("task", session) or ("org", name)',
            )
        kind, owner = namespace
        return {
            "profile": self._memory.profile,
            "task": self._memory.task,
            "org": self._memory.org,
        }[kind](owner)


def _inner(value: Mapping[str, Any]) -> Any:
    """Return what a bucket keeps: {"value": x} stands for x, where x is no dict."""
    if set(value) == {"value"} and not isinstance(value["value"], dict | None):
        return value["value"]
    return dict(value)


def _item(namespace: Namespace, held: items.Item) -> Item:
    at = datetime.fromtimestamp(held.valid_from, UTC)
    value = held.value if isinstance(held.value, dict) else {"value": held.value}
    return Item(value=value, key=held.key, namespace=namespace, created_at=at, updated_at=at)


def _scored(item: Item, query: str | None) -> SearchItem:
    score = None
    if query:
        wanted = set(re.findall(r"\w+", query.lower()))
        words = set(re.findall(r"\w+", f"{item.key} {item.value}".lower().replace("_", " ")))
        score = len(wanted & words) / max(1, len(wanted))
    return SearchItem(
        namespace=item.namespace,
        key=item.key,
        value=item.value,
        created_at=item.created_at,
        updated_at=item.updated_at,
        score=score,
    )


def _matches(value: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(_compares(value.get(key), condition) for key, condition in wanted.items())


def _compares(value: Any, condition: Any) -> bool:
    if not (isinstance(condition, dict) and any(str(key).startswith("$") for key in condition)):
        return bool(value == condition)
    for name, other in condition.items():
        if name not in _COMPARE:
            raise InputError(f"unknown filter {name!r}", hint=f"one of {', '.join(_COMPARE)}")
        try:
            if not _COMPARE[name](value, other):
                return False
        except TypeError:  # values that have no order
            return False
    return True


def _fits(namespace: Namespace, condition: MatchCondition) -> bool:
    path = tuple(condition.path)
    part = namespace[: len(path)] if condition.match_type == "prefix" else namespace[-len(path) :]
    return len(part) == len(path) and all(w in ("*", n) for n, w in zip(part, path, strict=True))
