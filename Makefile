# Litfass: everything a developer runs. `make demo` and `make test` work from an empty Debian or Raspberry Pi OS.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.stamp

.PHONY: help setup demo test lint bench hil docs crash lock wheel clean

help:            ## what can be made
	@grep -hE '^[a-z]+: .*##' Makefile | sed 's/:.*##/\t/' | expand -t 12

setup: $(STAMP)  ## .venv with everything, from the lock file
$(STAMP): requirements.lock pyproject.toml tools/setup.sh
	PYTHON=$(PYTHON) sh tools/setup.sh $(VENV)
	@touch $@

demo: $(STAMP)   ## the virtual street: sensors, drivers, ring, broker, on your screen
	$(BIN)/litfass demo --seconds 60

test: $(STAMP)   ## all tests (installs the Debian packages they need)
	sh tools/debian.sh test
	$(BIN)/pytest

lint: $(STAMP)   ## ruff, mypy strict, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.firmware.node_types
	$(BIN)/lint-imports

bench: $(STAMP)  ## measure; writes docs/benchmarks.md
	$(BIN)/litfass bench --write docs/benchmarks.md

hil: $(STAMP)    ## hardware-in-the-loop scenarios on the desk bench
	sh tools/debian.sh test
	$(BIN)/pytest hil_tests --bench hil_tests/bench/desk.yaml

crash: $(STAMP)  ## cut the power of a simulated ring, millions of times (CUTS=n)
	$(BIN)/python -m tests.ring.simulator --cuts $(or $(CUTS),3000000) --first-seed 10000000

docs: $(STAMP)   ## HTML documentation in docs/_build
	$(BIN)/sphinx-build -q -W -b html docs docs/_build

lock: $(STAMP)   ## pin all dependencies anew
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header --no-annotate --quiet --upgrade --output-file requirements.lock

wheel: $(STAMP)  ## build the wheel into dist/
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

clean:
	rm -rf $(VENV) dist build docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
