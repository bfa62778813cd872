# `make demo` and `make test` set up everything they need in .venv; the second time they start at once.
PYTHON ?= python3
SECONDS = 60
MINUTES = 1
BIN = .venv/bin
PIP = $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

NODE_PACKAGES = typescript@7.0.2 prettier@3.10.1 axe-core@4.14.1 onnxruntime-web@1.30.0 eslint@10.15.0

.PHONY: demo cluster-demo test coverage soak docs check format clean

demo: .venv/installed
	@$(BIN)/ecgwatch demo --seconds $(SECONDS)

# RabbitMQ, PostgreSQL, three monitors and 200 devices on this machine; one monitor is killed, one frozen, one joins.
cluster-demo: .venv/installed-cluster
	@$(BIN)/python -m tests.soak.cluster

test: .venv/installed-dev
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

# The same tests, with the share of lines that ran in this process; compiled loops and child processes are not counted.
coverage: .venv/installed-dev
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

# Faults of every kind, done to a monitor, and what was lost: twenty minutes, or more with MINUTES=5.
soak: .venv/installed-dev
	$(BIN)/python -m pytest -m long
	@$(BIN)/python -m tests.soak --minutes $(MINUTES)

# The documentation site, in docs/_build.
docs: .venv/installed-dev
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

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

# What the monitor and the simulator need; no torch. The compiled loops are cached, so every start is fast.
.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing into .venv (once, about a minute)"
	@$(PIP) --editable '.[page,terminal]'
	@$(BIN)/python -c "from monitor.engine import warm_up; warm_up()"
	@touch $@

# What the cluster needs, and pytest, whose helpers start the servers.
.venv/installed-cluster: .venv/installed
	@for program in rabbitmq-server psql; do command -v $$program >/dev/null || [ -x /usr/sbin/$$program ] || \
	    { echo "$$program is missing: sudo apt-get install rabbitmq-server postgresql"; exit 1; }; done
	@$(PIP) --editable '.[cluster]' pytest
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "installing torch and the development tools into .venv (once, a few minutes)"
	@$(PIP) --editable '.[dev]'
	@touch $@

# What tests use beside Python: type checker, formatter, accessibility checker; models in a browser. Needs npm.
.venv/node: .venv/bin/python Makefile
	npm install --prefix .venv/node --no-audit --no-fund --silent $(NODE_PACKAGES)
	@touch $@
