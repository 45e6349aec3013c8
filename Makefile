# Every target works as the only command typed on a fresh machine: it creates .venv and installs what it needs.
# The stamps in .venv make a second run start at once, and start over when pyproject.toml or constraints.txt changes.

# The first interpreter that can make a virtual environment and is new enough; the version of constraints.txt comes first.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.10 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
# make test CONSTRAINTS= tries the newest versions that install, in a .venv that is not there yet.
CONSTRAINTS ?= -c constraints.txt
PIP := $(BIN)/python -m pip install --disable-pip-version-check $(CONSTRAINTS)

DEMO_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=

# Rendering without a screen, and one thread a process: the test workers share the cores.
export MUJOCO_GL ?= egl
export SDL_VIDEODRIVER ?= dummy
test: export OMP_NUM_THREADS ?= 1
export NO_MKDOCS_2_WARNING := 1

CODE := $(wildcard wmcomponents tests examples benchmarks docs)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check bench docs lint format clean

help: ## list the targets
	@grep -E '^[a-z]+: .*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+): .*## (.*)/make \1|\2/' | column -t -s '|'

demo: $(VENV)/demo.stamp ## train an agent inside a dream of CartPole and show it on the real one (DEMO_ARGS="--seed 1")
	$(BIN)/wmc demo $(DEMO_ARGS)

test: $(VENV)/dev.stamp ## run all tests (PYTEST_ARGS="-m 'not slow'")
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadgroup $(PYTEST_ARGS)

check: lint ## what a pull request must pass: format, lint, spelling, types, layers, docs
	$(BIN)/codespell $(CODE) *.md *.toml *.yml
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/mkdocs build --strict
	WMC_SITE=site $(BIN)/python -m pytest -q --weekly tests/docs/test_site.py

lint: $(VENV)/dev.stamp ## format check and lint only
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)

format: $(VENV)/dev.stamp ## rewrite the code in the house format
	$(BIN)/ruff check --fix-only $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(VENV)/dev.stamp ## measure speed, write JSON and Markdown (BENCH_ARGS=--help)
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

docs: $(VENV)/dev.stamp ## build the documentation into site/
	$(BIN)/mkdocs build --strict

clean: ## remove .venv and everything built
	rm -rf $(VENV) site build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# torch first: the pin keeps pip from weighing other builds of it while it resolves the rest.
$(VENV)/torch.stamp: constraints.txt
	$(if $(PYTHON),,$(error no Python >= 3.10 with venv and ensurepip found; install one, or name it: make PYTHON=/path/to/python))
	$(PYTHON) -m venv $(VENV)
	@echo "Installing torch into $(VENV) (hundreds of megabytes, once)"
	$(PIP) torch
	@touch $@

$(VENV)/demo.stamp: EXTRAS := sb3,gym,viz,cli
$(VENV)/dev.stamp: EXTRAS := all,dev,docs
$(VENV)/%.stamp: $(VENV)/torch.stamp pyproject.toml
	@echo "Installing wmcomponents[$(EXTRAS)] into $(VENV) (some minutes, once)"
	$(PIP) --quiet -e '.[$(EXTRAS)]'
	@touch $@
