"""Buckets: typed facts about who (profile), what for (task) and for whom we work (org).

Items are append-only versions. A bucket counts its edits; that count orders them, says what a
prompt has shown already, and is what compare-and-set compares.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

from sqlalchemy import Connection, and_, bindparam, insert, literal_column, select, update

from agentmesh import canonical
from agentmesh.economy.tokens import count
from agentmesh.errors import ConflictError, InputError
from agentmesh.memory import tombstones
from agentmesh.memory.database import insert_once
from agentmesh.memory.items import TRUST, Item, Kind, Source, Trust, item_of
from agentmesh.memory.promotion import Claim, Promotion, Verdict, judge
from agentmesh.memory.statements import Statement
from agentmesh.memory.tables import bucket_items, buckets
from agentmesh.memory.twins import twin
from agentmesh.stable import stable_value

if TYPE_CHECKING:
    from agentmesh.memory.database import Database

LIMITS: dict[Kind, int] = {"org": 4_000, "profile": 2_000, "task": 4_000}
"""Tokens that a bucket may hold."""

ASIDE = "?"
"""Ends the kind of a bucket that holds what waits for a person's word."""

_KEY = re.compile(r"\w[\w.\-]{0,127}")
_AUTHOR_CHARS = 256
_ATTEMPTS = 1_000


# Statements are built once: putting one together costs more than SQLite takes to run it.
_MINE = and_(
    buckets.c.tenant == bindparam("of_tenant"),
    buckets.c.kind == bindparam("of_kind"),
    buckets.c.owner == bindparam("of_owner"),
)
_VERSIONS = (
    select(bucket_items)
    .join(buckets, buckets.c.id == bucket_items.c.bucket_id)
    .where(_MINE)
    .order_by(bucket_items.c.revision)
)
_KEYED = _VERSIONS.where(bucket_items.c.key == bindparam("of_key"))
_HOLDS = bucket_items.c.superseded_by.is_(None), bucket_items.c.value.is_not(None)
_ITEM, _ITEMS = Statement(_KEYED.where(*_HOLDS)), Statement(_VERSIONS.where(*_HOLDS))
_HISTORY = Statement(_KEYED)
_LOCK = Statement(select(buckets.c.id).where(_MINE).with_for_update())
_NEXT = Statement(
    update(buckets)
    .where(_MINE)
    .values(revision=buckets.c.revision + literal_column("1"))
    .returning(buckets.c.id, buckets.c.revision, buckets.c.tokens)
)
_TOTAL = Statement(
    update(buckets).where(buckets.c.id == bindparam("of_id")).values(tokens=bindparam("new_tokens"))
)
_NEWEST = Statement(
    select(bucket_items.c.revision, bucket_items.c.tokens, bucket_items.c.value).where(
        bucket_items.c.bucket_id == bindparam("of_id"),
        bucket_items.c.key == bindparam("of_key"),
        bucket_items.c.superseded_by.is_(None),
    )
)
_SUPERSEDE = Statement(
    update(bucket_items)
    .where(
        bucket_items.c.bucket_id == bindparam("of_id"),
        bucket_items.c.revision == bindparam("of_revision"),
    )
    .values(superseded_by=bindparam("by"))
)
_INSERT = Statement(
    insert(bucket_items),
    [column.key for column in bucket_items.c if column.key != "superseded_by"],
)


class _Draft(NamedTuple):
    """An item before it has its revision, as text, and what it costs."""

    item: Item
    text: str | None
    tokens: int


class Bucket:
    """The facts of one owner: `memory.profile("u1")`, `memory.task("s1")`, `memory.org("acme")`.

    >>> from agentmesh.memory import Memory
    >>> profile = Memory("sqlite://").profile("u1")
    >>> profile.set("language", "German", source="user").revision
    1
    >>> profile.get("language")
    'German'
    """

    def __init__(
        self,
        database: Database,
        *,
        tenant: str,
        kind: Kind,
        owner: str,
        limit: int,
        clock: Callable[[], float],
        promote: Promotion = "ask",
    ) -> None:
        self._promote = promote
        self._database = database
        self._tenant = tenant
        self._kind = kind
        self._owner = owner
        self._limit = limit
        self._clock = clock

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value that holds now."""
        item = self.item(key)
        return default if item is None else item.value

    def item(self, key: str) -> Item | None:
        """Return the version that holds now, or None."""
        return next(iter(self._select(_ITEM, of_key=key)), None)

    def items(self) -> list[Item]:
        """Return what holds now, sorted by key."""
        return sorted(self._select(_ITEMS), key=lambda item: item.key)

    def history(self, key: str) -> list[Item]:
        """Return every version of a key, oldest first."""
        return self._select(_HISTORY, of_key=key)

    def tokens(self) -> int:
        """Return how many tokens the bucket takes in a prompt."""
        return sum(item.tokens for item in self.items())

    def set(
        self,
        key: str,
        value: Any,
        *,
        source: Source = "developer",
        author: str = "",
        trust: Trust | None = None,
        expect: int | None = None,
        agreed: bool = False,
    ) -> Item:
        """Write a fact and return its new version.

        What a tool or another user said enters a Profile or an organisation only as the memory's
        `promote` allows: with "ask" the version that is returned is `pending` and does not hold
        before `decide`.

        Args:
            key: a word of letters, digits, `_`, `.` and `-`.
            value: anything that is JSON.
            source: who said so; decides the trust unless `trust` is given.
            author: the user, tool or person, for the record.
            trust: how far the value may be relied on.
            expect: the revision that the caller has read (0: none); ConflictError if another
                version holds by now.
            agreed: a person or a check has agreed to it; the policy is not asked again.

        Raises:
            InputError: the key, value or policy does not allow it, or the bucket is full.
        """
        if source not in TRUST:
            raise InputError(f"unknown source {source!r}", hint=f"one of {', '.join(TRUST)}")
        if trust is not None and trust not in get_args(Trust):
            raise InputError(f"unknown trust {trust!r}", hint="trusted, user or untrusted")
        if value is None:
            raise InputError(f"{key!r} cannot be None", hint="use delete() to remove an item")
        _check_key(key)
        if expect is not None and not isinstance(expect, int):
            raise InputError(f"expect cannot be {expect!r}", hint="the revision of an item, or 0")
        if not isinstance(author, str):
            raise InputError(f"author cannot be {author!r}", hint="a user's or a tool's name")
        trust = trust or self._trust(source, author)
        if expect is None and (held := self._held(key, value, source, author, trust)):
            return held
        draft = self._draft(key, value, source, author, trust)
        return self._write(draft, expect) if agreed else self._admit(draft, expect)

    def delete(self, key: str, *, source: Source = "developer", author: str = "") -> None:
        """Remove a fact; its versions stay on record until erased."""
        if source not in TRUST:
            raise InputError(f"unknown source {source!r}", hint=f"one of {', '.join(TRUST)}")
        _check_key(key)
        if self.item(key) is not None:
            draft = self._draft(key, None, source, author, self._trust(source, author))
            if self._judged(draft.item) != "stored":
                raise self._refused(draft.item)
            self._write(draft, None)

    def pending(self) -> list[Item]:
        """Return what waits for a person to agree, sorted by key."""
        return [replace(item, pending=True) for item in self._aside().items()]

    def decide(self, key: str, *, accept: bool, expect: int | None = None) -> Item | None:
        """Store a pending item and return it, or reject it: what a person says of it.

        Args:
            key: whose pending version it is.
            accept: whether it shall hold from now on, in place of what holds.
            expect: the pending revision that the person has seen; ConflictError if another waits.

        Raises:
            InputError: nothing waits under this key.
        """
        aside = self._aside()
        waiting = aside.item(key)
        if waiting is None:
            known = ", ".join(item.key for item in aside.items())
            raise InputError(f"{key!r:.80} is not pending", hint=f"pending: {known or 'none'}")
        if expect is not None and expect != waiting.revision:
            raise ConflictError(
                f"{key!r} is pending at revision {waiting.revision}, not {expect}",
                hint="look at it again",
            )
        taken = self._draft(key, waiting.value, waiting.source, waiting.author, waiting.trust)
        gone = aside._draft(key, None, waiting.source, waiting.author, waiting.trust)

        def work(connection: Connection) -> Item | None:
            aside._store(connection, gone, waiting.revision)
            return self._store(connection, taken, None) if accept else None

        return self._database.write(work)

    def update(
        self, key: str, change: Callable[[Any], Any], *, source: Source = "developer"
    ) -> Item:
        """Replace a value by `change(value)`; no edit of anybody else is lost.

        `change` is tried beside other writers first and, if one of them was quicker, run again
        while they wait, as it is from then on while the bucket is crowded: it should be short,
        have no effect of its own and not use this memory.
        """
        if source not in TRUST:
            raise InputError(f"unknown source {source!r}", hint=f"one of {', '.join(TRUST)}")
        _check_key(key)
        mine = self._tenant, self._kind, self._owner
        waits = self._trust(source, "") != "untrusted" and self._database.crowded(mine)
        for attempt in range(_ATTEMPTS):
            try:
                if attempt == 0 and not waits:
                    held = self.item(key)
                    draft = self._changed(key, held, change, source)
                    return self._admit(draft, held.revision if held else 0)
                return self._database.write(lambda c: self._change(c, key, change, source))
            except ConflictError:
                self._database.crowd(mine)
        raise ConflictError(
            f"{key!r} changed {_ATTEMPTS} times while it was updated", hint="try again later"
        )

    def _change(
        self, connection: Connection, key: str, change: Callable[[Any], Any], source: str
    ) -> Item:
        """Do what `update` does while the bucket's row is locked."""
        mine = self._mine()
        _LOCK.first(connection, mine)
        row = _ITEM.first(connection, {**mine, "of_key": key})
        held = item_of(row) if row else None
        draft = self._changed(key, held, change, source)
        if self._judged(draft.item) != "stored":
            raise self._refused(draft.item)
        return self._store(connection, draft, held.revision if held else 0)

    def _changed(
        self, key: str, held: Item | None, change: Callable[[Any], Any], source: str
    ) -> _Draft:
        value = change(held.value if held else None)
        if value is None:
            raise InputError(f"{key!r} cannot become None", hint="use delete() to remove an item")
        return self._draft(key, value, source, "", self._trust(source, ""))

    def _trust(self, source: str, author: str) -> Trust:
        """Return how far a source is trusted here: a user's words only about that user."""
        own = self._kind == "task" or (self._kind == "profile" and author in ("", self._owner))
        return TRUST[source] if own or source != "user" else "untrusted"

    def _judged(self, item: Item) -> Verdict:
        who = item.source, item.author, item.trust
        return judge(self._promote, Claim(self._kind, self._owner, item.key, item.value, *who))

    def _admit(self, draft: _Draft, expect: int | None) -> Item:
        """Write an item, put it aside until a person agrees, or refuse it."""
        judged = self._judged(draft.item)
        if judged == "refused":
            raise self._refused(draft.item)
        if judged == "pending":
            return replace(self._aside()._write(draft, None), pending=True)
        return self._write(draft, expect)

    def _refused(self, item: Item) -> InputError:
        who = f"{item.source} {item.author!r}" if item.author else item.source
        return InputError(
            f"{item.key!r} of the {self._kind} of {self._owner!r} is not changed: what {who} says"
            " is untrusted",
            hint="see Memory(promote=...); source='developer' vouches for it",
        )

    def _aside(self) -> Bucket:
        """Return the bucket of what waits for a person's word; no prompt shows it."""
        return Bucket(
            self._database,
            tenant=self._tenant,
            kind=cast(Kind, f"{self._kind}{ASIDE}"),
            owner=self._owner,
            limit=self._limit,
            clock=self._clock,
        )

    def _held(self, key: str, value: Any, source: str, author: str, trust: str) -> Item | None:
        """Return the version that says just this already: a model need not be told again."""
        held = self.item(key)
        same = held is not None and (held.source, held.author, held.trust) == (
            source,
            author,
            trust,
        )
        if held is None or not same:
            return None
        return held if canonical.dumps(held.value) == canonical.dumps(value) else None

    def _select(self, statement: Statement, **values: Any) -> list[Item]:
        given = {**self._mine(), **values}
        return self._database.read(lambda c: [item_of(row) for row in statement.all(c, given)])

    def _mine(self) -> dict[str, str]:
        return {"of_tenant": self._tenant, "of_kind": self._kind, "of_owner": self._owner}

    def _draft(self, key: str, value: Any, source: str, author: str, trust: str) -> _Draft:
        stable_value(f"{key!r} of the {self._kind} of {self._owner!r}", value)
        text = None if value is None else canonical.clean(canonical.dumps(value))
        item = Item(
            key=key,
            value=None if text is None else canonical.loads(text),
            revision=0,
            source=source,
            author=canonical.clean(author)[:_AUTHOR_CHARS],
            trust=trust,
            valid_from=self._clock(),
            removed=text is None,
        )
        return _Draft(item, text, 0 if text is None else count(item.line() + "\n"))

    def _write(self, draft: _Draft, expect: int | None) -> Item:
        return self._database.write(lambda c: self._store(c, draft, expect))

    def _store(self, connection: Connection, new: _Draft, expect: int | None) -> Item:
        draft, text, tokens = new
        bucket_id, revision, total = self._next(connection)
        held = _NEWEST.first(connection, {"of_id": bucket_id, "of_key": draft.key})
        current = held.revision if held and held.value is not None else 0
        if expect is not None and expect != current:
            raise ConflictError(
                f"{draft.key!r} is at revision {current}, not {expect}",
                hint="read it again, or use update()",
            )
        total += tokens - (held.tokens if held else 0)
        if tokens and total > self._limit:
            raise InputError(
                f"the {self._kind} of {self._owner!r} is full: {total} of {self._limit} tokens"
                f" with {draft.key!r}",
                hint=f"largest: {self._largest(connection, bucket_id)}",
            )
        if held:
            old = {"of_id": bucket_id, "of_revision": held.revision, "by": revision}
            _SUPERSEDE.run(connection, old)
        new_row = {
            "bucket_id": bucket_id,
            "revision": revision,
            "tenant": self._tenant,
            "key": draft.key,
            "value": text,
            "source": draft.source,
            "author": draft.author,
            "trust": draft.trust,
            "valid_from": draft.valid_from,
            "tokens": tokens,
        }
        _INSERT.run(connection, new_row)
        _TOTAL.run(connection, {"of_id": bucket_id, "new_tokens": total})
        return replace(draft, revision=revision, tokens=tokens)

    def _next(self, connection: Connection) -> tuple[int, int, int]:
        """Take the bucket's next revision; its row is locked until the transaction ends."""
        row = _NEXT.first(connection, self._mine())
        if row is None:
            names = {"profile": "user", "task": "session"}
            kind = self._kind.removesuffix(ASIDE)
            named = {names[kind]: self._owner} if kind in names else {}
            tombstones.refuse(connection, self._tenant, **named)
            insert_once(
                connection,
                buckets,
                tenant=self._tenant,
                kind=self._kind,
                owner=self._owner,
                revision=0,
                tokens=0,
            )
            row = _NEXT.first(connection, self._mine())
        return row.id, row.revision, row.tokens

    def _largest(self, connection: Connection, bucket_id: int) -> str:
        rows = connection.execute(
            select(bucket_items.c.key, bucket_items.c.tokens)
            .where(bucket_items.c.bucket_id == bucket_id, bucket_items.c.superseded_by.is_(None))
            .order_by(bucket_items.c.tokens.desc(), bucket_items.c.key)
            .limit(3)
        )
        return ", ".join(f"{row.key} ({row.tokens})" for row in rows) or "this item alone"

    aget = twin(get)
    aitem = twin(item)
    aitems = twin(items)
    ahistory = twin(history)
    atokens = twin(tokens)
    aset = twin(set)
    adelete = twin(delete)
    apending = twin(pending)
    adecide = twin(decide)
    aupdate = twin(update)


def _check_key(key: str) -> None:
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise InputError(
            f"{key!r:.80} is not a key", hint="letters, digits, '_', '.' and '-', at most 128"
        )
