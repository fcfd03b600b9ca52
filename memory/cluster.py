"""A private PostgreSQL server for tests and benchmarks: made on entry, gone on exit."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agentmesh.errors import ConfigError

ENVIRONMENT = "AGENTMESH_TEST_POSTGRES"
"""Names a server to use instead, as a URL."""


def available() -> str:
    """Return an empty string if `postgres` can run here, or why it cannot."""
    if os.environ.get(ENVIRONMENT) or _programs():
        return ""
    return f"PostgreSQL's server programs are not installed and {ENVIRONMENT} is not set"


@contextmanager
def postgres(*, durable: bool = True) -> Iterator[str]:
    """Run a server of its own, reachable by a socket alone, and give its URL.

    Args:
        durable: false gives up `fsync`: quicker, for tests that pull no plug.
    """
    if given := os.environ.get(ENVIRONMENT):
        yield given
        return
    programs = _programs()
    if programs is None:
        raise ConfigError(available(), hint="install a PostgreSQL server")
    folder = Path(tempfile.mkdtemp(prefix="agentmesh-pg-"))
    # The server refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c max_connections=300"
    if not durable:
        options += " -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
    control = [str(programs / "pg_ctl"), "-D", str(folder / "data"), "-w"]

    def run(*command: str) -> None:
        subprocess.run(  # noqa: S603  # programs of the server, no shell
            command, check=True, user=user, cwd="/", stdout=subprocess.DEVNULL
        )

    try:
        run(
            str(programs / "initdb"),
            *("-D", str(folder / "data"), "-U", "postgres", "--auth=trust", "-E", "UTF8"),
            *("--locale=C", "--no-sync"),
        )
        run(*control, "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        finally:
            run(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    """Return the folder of the newest server programs."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb")
    places += [Path(found).parent] if found else []
    return next((place for place in places if (place / "initdb").exists()), None)
