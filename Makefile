# `make demo` and `make test` set up everything they need in .venv; the second time they start at once.
PYTHON ?= python3
SECONDS = 60
MINUTES = 1
BIN = .venv/bin
PIP = $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test soak check format clean

demo: .venv/installed
	@$(BIN)/python -m simulator demo --seconds $(SECONDS)

test: .venv/installed-dev
	$(BIN)/python -m pytest

# Whatever may befall a monitor, and what was lost by it: twenty minutes, or more with MINUTES=5.
soak: .venv/installed-dev
	$(BIN)/python -m pytest -m long
	@$(BIN)/python -m tests.soak --minutes $(MINUTES)

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build *.egg-info

.venv/bin/python:
	$(PYTHON) -m venv .venv

# What runs the monitor and the simulator; no torch. The compiled loops are cached, so that every start is quick.
.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing into .venv (once, about a minute)"
	@$(PIP) --editable .
	@$(BIN)/python -c "from monitor.engine import warm_up; warm_up()"
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "installing torch and the development tools into .venv (once, a few minutes)"
	@$(PIP) --editable '.[dev]'
	@touch $@
