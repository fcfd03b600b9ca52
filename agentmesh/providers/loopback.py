"""Addresses on this machine: no key is needed there, and no proxy is in between."""

from __future__ import annotations

from urllib.parse import urlsplit

_HOSTS = {"127.0.0.1", "::1", "localhost"}


def loopback_host(url: str | None) -> str:
    """Return the host of a URL on this machine, or "".

    >>> loopback_host("http://127.0.0.1:8000/v1"), loopback_host("https://api.anthropic.com")
    ('127.0.0.1', '')
    """
    try:
        host = urlsplit(url or "").hostname or ""
    except ValueError:
        return ""
    return host if host in _HOSTS else ""
