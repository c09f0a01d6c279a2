# Every command works on a fresh clone: it makes .venv and installs what is missing first.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
WORKERS ?= 2

.PHONY: demo test cluster check docs bench browser format schema clean help

help:            ## list the commands
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Headstart needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing Headstart with its demo extra (a few minutes the first time)"
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing Headstart with its dev extra (a few minutes the first time)"
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo   ## real digits, real weights, a report: under 3 minutes once installed
	$(BIN)/headstart run mnist-few-labels --profile small

# A worker that dies ends the run, with the name of its test: pytest-xdist would start another and,
# with whole files on one worker, sometimes wait for ever.
test: $(VENV)/.dev    ## run the tests (warnings are errors)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --max-worker-restart 0

cluster: $(VENV)/.dev ## the tests that take minutes: Ray clusters, lost processes and machines, killed programs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m cluster --durations 0

check: $(VENV)/.dev   ## format, lint, strict types, import contracts, docstrings
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pydoclint --quiet src

format: $(VENV)/.dev  ## format and mend what can be mended by machine
	$(BIN)/ruff format src tests benchmarks
	$(BIN)/ruff check --fix src tests benchmarks

docs: $(VENV)/.dev    ## build the documentation, strictly, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.dev   ## measure against Keras, PyTorch, fastai … in one run: an hour and a half, benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks

browser:         ## install Debian's Chromium, with which the tests look at the page
	@command -v chromium >/dev/null || { apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium; }

clean:           ## remove what the commands above made (not runs/, not the cache)
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
