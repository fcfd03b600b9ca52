# One command each: `make demo` on a fresh machine, `make test`, `make check`.
# Needs Python 3.11 or newer; uses uv where it is on the path.

PYTHON ?= python3
BIN := .venv/bin
UV := $(shell command -v uv 2>/dev/null)

ifdef UV
INSTALL := uv pip install --quiet --python $(BIN)/python
else
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
endif

.PHONY: demo test check format bench clean

demo: .venv/installed
	$(BIN)/agentmesh demo support

test: .venv/developed
	$(BIN)/python -m pytest -n auto -q

check: .venv/developed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/developed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "AgentMesh needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
ifdef UV
	uv venv --quiet --python $(PYTHON) .venv
else
	$(PYTHON) -m venv .venv
endif

.venv/installed: $(BIN)/python pyproject.toml
	@echo "Installing AgentMesh into .venv (once, about a minute)"
	$(INSTALL) -e .
	@touch $@

.venv/developed: .venv/installed pyproject.toml
	@echo "Installing the development tools into .venv (once)"
	$(INSTALL) -e '.[dev]'
	@touch $@
