"""The tables: everything durable that AgentMesh knows, in plain JSON and text.

Every row carries its tenant. Nothing here is re-rendered: what is sent to a model is stored as
the text that was sent.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only where the key is declared INTEGER.
_Key = BigInteger().with_variant(Integer, "sqlite")

buckets = Table(
    "buckets",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("kind", String(8), nullable=False),  # org, profile, task
    Column("owner", String(256), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("tokens", Integer, nullable=False),
    UniqueConstraint("tenant", "kind", "owner"),
)
"""One row per bucket; `revision` counts its edits and orders them."""

bucket_items = Table(
    "bucket_items",
    metadata,
    Column("bucket_id", ForeignKey("buckets.id", ondelete="CASCADE"), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("key", String(256), nullable=False),
    Column("value", Text),  # canonical JSON; NULL says that the item was removed
    Column("source", String(64), nullable=False),
    Column("author", String(256), nullable=False),
    Column("trust", String(16), nullable=False),
    Column("valid_from", Float, nullable=False),
    Column("superseded_by", Integer),  # the revision that replaced it; NULL while it holds
    Column("tokens", Integer, nullable=False),
    Index("ix_bucket_items_key", "bucket_id", "key", "revision"),
    Index(
        "ix_bucket_items_current",
        "bucket_id",
        "key",
        unique=True,
        sqlite_where=text("superseded_by IS NULL"),
        postgresql_where=text("superseded_by IS NULL"),
    ),
)
"""Append-only versions of Profile, Task and organisation facts."""

sessions = Table(
    "sessions",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("name", String(256), nullable=False),
    Column("user", String(256), nullable=False),
    Column("agent", String(128), nullable=False),
    Column("created_at", Float, nullable=False),
    # What most turns leave as it is stands before what they change: PostgreSQL logs the rest only.
    Column("owner", String(128), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("turn", Integer, nullable=False),
    Column("head", Integer, nullable=False),  # seq of the newest entry
    Column("chain", String(64), nullable=False),  # hash over the whole log up to the head
    Column("state", String(8), nullable=False),  # idle, running, waiting
    Column("lease_until", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    UniqueConstraint("tenant", "name"),
    Index("ix_sessions_user", "tenant", "user"),
    sqlite_autoincrement=True,  # the number of an erased session is never given to another
)
"""One row per session: the head of its log and the lease of its running turn."""

# Entries and calls are written together with their session's row. A foreign key would lock that
# row once more for each, which on PostgreSQL is a tenth of all that a turn writes.
entries = Table(
    "entries",
    metadata,
    Column("session_id", _Key, primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("turn", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("kind", String(12), nullable=False),
    Column("body", Text, nullable=False),
    Column("chain", String(64), nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("at", Float, nullable=False),
)
"""The log of every session, append-only."""

layers = Table(
    "layers",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("sha", String(64), primary_key=True),
    Column("body", Text, nullable=False),
)
"""Frozen text that many sessions share (tools, core instructions, organisation), stored once."""

epochs = Table(
    "epochs",
    metadata,
    Column("session_id", ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("base", Integer, nullable=False),  # the history shown begins after this seq
    Column("shared", Text, nullable=False),  # canonical JSON: [[name, sha], ...]
    Column("frozen", Text, nullable=False),  # canonical JSON: [[name, text], ...]
    Column("seen", Text, nullable=False),  # canonical JSON: {bucket kind: revision folded in}
    Column("at", Float, nullable=False),
)
"""What a session's prefix was frozen to, and why."""

calls = Table(
    "calls",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("session_id", _Key, nullable=False),
    Column("user", String(256), nullable=False),
    Column("agent", String(128), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("turn", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("purpose", String(16), nullable=False),
    Column("tier", String(64), nullable=False),
    Column("model", String(256), nullable=False),
    Column("head", Integer, nullable=False),  # the last entry that the prompt showed
    Column("tail", Text, nullable=False),
    Column("marks", Text, nullable=False),  # canonical JSON of the prompt's marks
    Column("prompt_sha", String(64), nullable=False),
    Column("decision", Text, nullable=False),  # canonical JSON: stage, reason, probabilities
    Column("planned", Text, nullable=False),  # canonical JSON: tokens expected by kind
    Column("fresh", Integer, nullable=False),
    Column("read", Integer, nullable=False),
    Column("write", Integer, nullable=False),
    Column("write_long", Integer, nullable=False),
    Column("output", Integer, nullable=False),
    Column("reasoning", Integer, nullable=False),
    Column("cost", BigInteger),  # micro-dollars; NULL where the price is unknown
    Column("outcome", String(64), nullable=False),
    Column("detail", Text, nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("started_at", Float, nullable=False),
    Column("latency_s", Float, nullable=False),
    Index("ix_calls_session_id_turn", "session_id", "turn"),
    Index("ix_calls_tenant_started_at", "tenant", "started_at"),
)
"""The ledger: one row per model call that was made, whatever came of it."""

feedback = Table(
    "feedback",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("session_id", ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
    Column("turn", Integer, nullable=False),
    Column("score", Float),
    Column("label", String(64), nullable=False),
    Column("comment", Text, nullable=False),
    Column("at", Float, nullable=False),
    Index("ix_feedback_session_id_turn", "session_id", "turn"),
)
"""What people and programs said of a turn."""

tombstones = Table(
    "tombstones",
    metadata,
    Column("sha", String(64), primary_key=True),  # of kind, tenant and name
    Column("kind", String(8), nullable=False),  # tenant, user, session
    Column("at", Float, nullable=False),
)
"""What was erased: whoever still writes to it is refused."""

models = Table(
    "models",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("name", String(128), nullable=False),
    Column("version", Integer, nullable=False),
    Column("kind", String(32), nullable=False),  # router, verifier, student
    Column("state", String(16), nullable=False),  # candidate, shadow, canary, live, retired
    Column("facts", Text, nullable=False),  # canonical JSON: how it was trained and measured
    Column("path", Text, nullable=False),
    Column("sha", String(64), nullable=False),
    Column("at", Float, nullable=False),
    UniqueConstraint("tenant", "name", "version"),
)
"""Versions of routers and students and the state that each is in."""

model_files = Table(
    "model_files",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("sha", String(64), primary_key=True),
    Column("body", LargeBinary, nullable=False),
)
"""Files of router versions, stored once each; `models.sha` refers to them."""

pins = Table(
    "pins",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("agent", String(128), primary_key=True),
    Column("tool", String(64), primary_key=True),
    Column("sha", String(64), nullable=False),
    Column("description", Text, nullable=False),
    Column("parameters", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("at", String(32), nullable=False),  # UTC, ISO 8601
)
"""Definitions of tools that come from elsewhere, as a person last agreed to them."""
