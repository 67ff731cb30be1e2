# labkit: `make lab` opens the course, `make test` proves it. Everything lands in .venv and build/.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Student code and the tests of two workers share two cores; more workers only wait for each other.
WORKERS ?= 2
SEEDS ?= 1000
C_SOURCES := $(shell find native -type f 2>/dev/null)
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help lab test test-all diff-docker test-unit test-host test-browser test-vm sim check format bench packages packages-test packages-browser packages-vm clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

packages: ## the OS packages: as root installs them, otherwise prints the one line to run
	@$(PYTHON) binder/packages.py binder/apt.txt

packages-test: packages
	@$(PYTHON) binder/packages.py tests/apt.txt

packages-browser: packages
	@$(PYTHON) binder/packages.py tests/browser/apt.txt

packages-vm:
	@$(PYTHON) binder/packages.py tests/vm/apt.txt

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "labkit needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python3-venv is missing: make packages" >&2; exit 1; }

# One stamp for a student's installation and one for a developer's, so `make lab` stays small.
$(VENV)/.lab: pyproject.toml $(C_SOURCES) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[lab]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(C_SOURCES) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.lab

lab: packages $(VENV)/.lab ## set up everything and open JupyterLab on the course
	$(BIN)/labkit lab

test: packages-test $(VENV)/.dev ## everything that must hold before a change lands
	$(MAKE) --no-print-directory check
	$(PYTEST) -n $(WORKERS) --dist loadfile -m "not slow" --ignore=tests/browser

test-all: packages-test $(VENV)/.dev ## `make test` and the slow suites
	$(MAKE) --no-print-directory check
	HYPOTHESIS_PROFILE=explores $(PYTEST) -n $(WORKERS) --dist loadfile --ignore=tests/browser

test-unit: $(VENV)/.dev ## the tests that need no privilege and no daemon
	$(PYTEST) -n $(WORKERS) tests/unit

test-host: $(VENV)/.dev ## real containers: isolation, engine, escapes, wire
	$(PYTEST) -n $(WORKERS) --dist loadfile tests/system tests/escape tests/wire

test-browser: packages-browser $(VENV)/.dev ## JupyterLab in headless Chromium; screenshots land in artifacts/
	$(PYTEST) tests/browser

test-vm: packages-vm $(VENV)/.dev ## system and escape tests on Debian's own kernel under QEMU: cgroup v2, systemd, rootless
	$(BIN)/python tests/vm/run.py

sim: $(VENV)/.dev ## live through SEEDS simulated clusters (default 1000) on every core
	$(BIN)/python -m labkit.cluster.raft.simulation --seeds $(SEEDS)

diff-docker: $(VENV)/.dev ## the same commands against Docker Engine (as root); prints what differs and why
	$(BIN)/python -m tests.differential --verbose

check: $(VENV)/.dev ## ruff, mypy strict
	$(BIN)/ruff format --check labkit tests exercises
	$(BIN)/ruff check labkit tests exercises
	$(BIN)/mypy

format: $(VENV)/.dev ## let ruff lay out the code
	$(BIN)/ruff format labkit tests exercises
	$(BIN)/ruff check --fix labkit tests exercises

bench: $(VENV)/.dev ## ratios against the peers that are installed; asserts nothing
	@for script in tests/bench/bench_*.py; do echo "== $$script"; $(BIN)/python $$script; done

clean: ## remove what the targets made
	rm -rf $(VENV) build dist artifacts .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
