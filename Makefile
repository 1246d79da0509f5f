# `make` without arguments lists the targets. Requires only python3 (3.11 or newer, with venv) and git.
.DEFAULT_GOAL := help
.PHONY: help run test test-all lint fmt bench clean lock

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check
LOCKER := build/locker
# Tests of real peers wait: more workers than cores keep the cores busy, but each collects all tests and starts peers.
WORKERS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN) + 2)))

# $(call TEST,ARGUMENTS OF PYTEST): the output of lint follows that of the tests, and only where lint fails
define TEST
@mkdir -p build
@$(MAKE) --no-print-directory lint >build/lint.log 2>&1 & lint=$$!; \
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal $(1); tests=$$?; \
	wait $$lint && echo "lint: passed" || { lint=$$?; cat build/lint.log; exit $$lint; }; \
	exit $$tests
endef

# The tests start thousands of processes; without this, each would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 18

run: $(VENV)/.run  ## demonstrate the loop on the sample models, in a scratch copy
	$(BIN)/python scripts/demo.py

test: $(VENV)/.dev  ## run every test that takes seconds, and lint at the same time
	$(call TEST,-m "not slow")

test-all: $(VENV)/.dev  ## run every test, and lint at the same time
	$(call TEST,)

lint: $(VENV)/.dev  ## check style, types, layers, structure, and generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy scripts
	$(BIN)/mypy --explicit-package-bases benchmarks
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_structure.py
	$(BIN)/python scripts/make_sample.py --check
	$(BIN)/python scripts/make_reference.py --check
	$(BIN)/python scripts/make_commands.py --check

fmt: $(VENV)/.dev  ## format the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## run the benchmarks
	$(BIN)/python -m benchmarks

clean:  ## remove what these targets created, never a model or a store
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .grimp_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# --- environment: two stamps, so that `make run` does not install the test tools. The files list every package,
# and pip refuses the extra of a pinned package as one that is not pinned, so nothing else is resolved.

$(VENV)/.run: requirements/run.txt requirements/build.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"error: {sys.executable} is Python {sys.version.split()[0]}; 3.11 or newer is needed\nhint: make $(MAKECMDGOALS) PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo 'error: $(PYTHON) cannot make virtual environments (it lacks venv or ensurepip)' >&2; \
		echo 'hint: on Debian and Ubuntu, install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --no-deps --require-hashes -r requirements/run.txt -r requirements/build.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	$(PIP) install --no-deps --require-hashes -r requirements/dev.txt
	@touch $@

# --- lock: hash-pinned and for every platform; these files never contain the address of a package index

COMPILE = $(LOCKER)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	--no-annotate --no-header --no-emit-index-url --no-emit-find-links

lock:  ## update requirements/*.txt from pyproject.toml
	$(PYTHON) -m venv $(LOCKER)
	$(LOCKER)/bin/python -m pip --quiet install uv
	$(COMPILE) pyproject.toml --output-file requirements/run.txt
	$(COMPILE) requirements/build.in --output-file requirements/build.txt
	$(COMPILE) pyproject.toml --extra sign --constraint requirements/run.txt --output-file requirements/sign.txt
	$(COMPILE) pyproject.toml --extra keyless --constraint requirements/sign.txt --output-file requirements/keyless.txt
	$(COMPILE) pyproject.toml --extra cloud --extra native --extra hf --extra filecoin --extra serve --extra ipns --extra keyless --extra seal --extra sign --extra socks --extra test --extra lint --constraint requirements/keyless.txt \
		--constraint requirements/build.txt --output-file requirements/dev.txt
