"""The package as it is installed: its parts, its surface, and what importing it costs."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
TOP = {"memory": "memory", "routing": "routing", "tools": "tools", "examples": "examples"}


def folders() -> set[str]:
    """Return the import names of all folders that hold a package."""
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "agentmesh").rglob("__init__.py")
        if not any(parent.is_symlink() for parent in path.parents)
    }
    for folder, name in TOP.items():
        for path in (ROOT / folder).rglob("__init__.py"):
            below = path.parent.relative_to(ROOT / folder).parts
            if "data" not in below:
                found.add(".".join(("agentmesh", name, *below)))
    return found


def test_every_package_is_listed() -> None:
    assert set(CONFIG["packages"]) == folders()


def test_the_folders_at_the_top_are_linked_below_the_package() -> None:
    for folder, name in TOP.items():
        link = ROOT / "agentmesh" / name
        assert link.is_symlink()
        assert link.resolve() == (ROOT / folder).resolve()


@pytest.mark.parametrize("name", sorted(set(CONFIG["packages"]) - {"agentmesh.examples"}))
def test_all_names_what_is_exported(name: str) -> None:
    module = importlib.import_module(name)
    names = getattr(module, "__all__", [])
    assert len(names) == len(set(names))
    for item in names:
        assert getattr(module, item) is not None
    with pytest.raises(AttributeError):
        _ = module.no_such_name


def loaded(statement: str) -> set[str]:
    """Return the top-level modules that a statement loads in a fresh interpreter."""
    code = f"{statement}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import agentmesh", {"langgraph", "langchain_core", "sklearn", "sqlalchemy", "anthropic"}),
        (
            "import agentmesh.memory",
            {"langgraph", "langchain_core", "sklearn", "anthropic", "openai"},
        ),
        ("import agentmesh.economy", {"langgraph", "langchain_core", "sqlalchemy", "genai_prices"}),
        ("import agentmesh.routing", {"sklearn", "skops", "langgraph"}),
        ("import agentmesh.tools", {"langgraph", "sqlalchemy", "sklearn"}),
        ("import agentmesh.cli", {"langgraph", "langchain_core", "sklearn", "sqlalchemy"}),
        ("import agentmesh.agent", {"sklearn", "anthropic", "openai", "genai_prices"}),
    ],
)
def test_what_is_heavy_is_loaded_when_it_is_used(statement: str, absent: set[str]) -> None:
    assert not loaded(statement) & absent


FOUNDATION = ("errors", "canonical", "prompt", "stable", "toolview")
"""What every layer may import."""

LAYERS = {
    "economy": {"economy"},
    "providers": {"providers", "economy"},
    "emulator": {"emulator", "economy"},
    "memory": {"memory", "economy"},
    "routing": {"routing", "providers", "economy"},
    "tools": {"tools"},
}
"""What each layer may import of ours, beside the foundation."""


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_import_only_downwards(layer: str) -> None:
    allowed = {f"agentmesh.{name}" for name in (*LAYERS[layer], *FOUNDATION)}
    for path in (ROOT / "agentmesh" / layer).rglob("*.py"):
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] in (["from"], ["import"]) and words[1].startswith("agentmesh"):
                if words[:4] == ["from", "agentmesh", "import", words[3]]:
                    targets = [f"agentmesh.{word.strip(',()')}" for word in words[3:]]
                else:
                    targets = [words[1]]
                for target in targets:
                    part = ".".join(target.split(".")[:2])
                    assert part in allowed, f"{path.relative_to(ROOT)}: {line.strip()}"
