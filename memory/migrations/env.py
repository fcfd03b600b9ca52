"""Runs migrations on the connection that `agentmesh.memory.schema` gives."""

from alembic import context

from agentmesh.memory.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
context.run_migrations()
