import subprocess
import sys

from agentmesh import distill


def test_every_name_of_the_surface_is_there():
    assert distill.__all__ == sorted(distill.__all__)
    for name in distill.__all__:
        assert getattr(distill, name).__name__ == name or name == "Advice"


def test_nothing_heavy_is_loaded_before_its_use():
    code = (
        "import sys, agentmesh.distill, agentmesh.cli.distill as c;"
        "print([m for m in ('sklearn', 'langgraph', 'langchain_core', 'torch') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
