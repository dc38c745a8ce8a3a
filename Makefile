# Needs make and Python 3.11, 3.12 or 3.13; everything else goes into .venv.

SUPPORTED := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
CANDIDATES := python3 python3.13 python3.12 python3.11 python
PYTHON ?= $(shell for name in $(CANDIDATES); do \
	if "$$name" -c '$(SUPPORTED)' >/dev/null 2>&1; then command -v "$$name"; break; fi; done)
BIN := .venv/bin
# All tests with Ray in one process, all others in a second one (tests/side_by_side.py).
SIDE_BY_SIDE := -n 2

# Where that is set each of the hundreds of processes that the tests start would compile perdure anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv demo chaos test test-full bench lint clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

venv: .venv/.installed  ## make .venv and install perdure into it, editable, with everything the tests need

# The mark is set last: an installation that was cut short is started again.
.venv/.installed: pyproject.toml
	@if [ -z '$(PYTHON)' ]; then \
		echo 'perdure needs Python 3.11, 3.12 or 3.13 with its venv module; none of these is one: $(CANDIDATES).' >&2; \
		echo 'Install one (on Debian also the package python3-venv), or name it: make venv PYTHON=/path/to/python3.12' >&2; \
		exit 1; fi
	@'$(PYTHON)' -c '$(SUPPORTED)' || { \
		echo '$(PYTHON) is not Python 3.11, 3.12 or 3.13 with its venv module.' >&2; exit 1; }
	@if [ -e .venv ] && ! $(BIN)/python -c '$(SUPPORTED)' >/dev/null 2>&1; then \
		echo '.venv holds no usable Python 3.11 to 3.13; remove it (rm -r .venv) and run make again.' >&2; exit 1; fi
	test -x $(BIN)/python || '$(PYTHON)' -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[all,test]'
	@touch $@

chaos: venv  ## kill, stop and starve a real service; options: make chaos ARGS="--seconds 600 --seed 7 --store redis"
	$(BIN)/python -m tests.chaos $(ARGS)

demo: venv  ## audit the standard library with a graph, kill its workers, watch it finish
	$(BIN)/python -m perdure.examples.audit demo

test: venv  ## all tests but the long ones; ruff, mypy and the import rules are among them
	$(BIN)/pytest -q $(SIDE_BY_SIDE)

test-full: venv  ## all tests
	$(BIN)/pytest -q --full $(SIDE_BY_SIDE)

bench: venv  ## the benchmarks
	$(BIN)/python -m benchmarks

lint: venv  ## ruff, mypy and the import rules only
	$(BIN)/pytest -q tests/test_house.py

clean:  ## remove caches and build products; .venv stays
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
