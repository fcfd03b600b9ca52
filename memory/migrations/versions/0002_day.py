"""Find a tenant's calls by time: what a day cost is summed without reading other days."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Index the ledger by tenant and time."""
    op.create_index("ix_calls_tenant_started_at", "calls", ["tenant", "started_at"], unique=False)


def downgrade() -> None:
    """Drop the index."""
    op.drop_index("ix_calls_tenant_started_at", "calls")
