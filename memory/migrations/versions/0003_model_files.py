"""Keep the files of router versions in the database, found by what they hold."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table of files."""
    op.create_table(
        "model_files",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("sha", sa.String(length=64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "sha", name="pk_model_files"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("model_files")
