from __future__ import annotations

import subprocess
import sys

import agentmesh.tools


def test_every_exported_name_is_there_and_sorted() -> None:
    assert agentmesh.tools.__all__ == sorted(agentmesh.tools.__all__)
    for name in agentmesh.tools.__all__:
        assert getattr(agentmesh.tools, name) is not None


def test_an_export_is_never_hidden_by_a_module() -> None:
    program = (
        "import pkgutil, importlib, types, agentmesh.tools as t\n"
        "for m in pkgutil.iter_modules(t.__path__):\n"
        "    m.name.startswith('_') or importlib.import_module('agentmesh.tools.' + m.name)\n"
        "print([n for n in t.__all__ if isinstance(getattr(t, n), types.ModuleType)])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_tools_load_no_graph_and_no_layer_of_ours_above_the_foundation() -> None:
    program = (
        "import sys, agentmesh.tools as t\n"
        "[getattr(t, name) for name in t.__all__]\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('langgraph', 'sklearn',"
        " 'anthropic', 'openai') or m.startswith('agentmesh.') and m.split('.')[1] not in"
        " ('tools', 'errors', 'canonical', 'prompt')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = "import sys, agentmesh.tools; print('langchain_core' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
