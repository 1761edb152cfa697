# Two commands do everything on a machine with Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := lineage weightmark crawl stats
export NUMBA_CACHE_DIR ?= $(CURDIR)/.cache/numba-$(shell cat $$(find stats -name '*.py' 2>/dev/null | sort) | sha256sum | cut -c1-16)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Two test workers with two BLAS threads each only wait for each other.
export OPENBLAS_NUM_THREADS ?= 1
# Compiled modules are kept: without them every worker and every process of the tests compiles all of them again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo setup test check calibrate trees bench bench-table outside golden zoo clean
help:            ## what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/'

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("lineage needs Python 3.11 or newer; call: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e ".[dev]"
	@touch $(STAMP)

setup: $(STAMP)  ## virtual environment with everything the tests need

demo: $(STAMP)   ## the main job on the shipped fixtures: pairs, then the family tree
	$(BIN)/lineage compare fixtures/zoo/llama-a fixtures/zoo/llama-a-ft1
	$(BIN)/lineage compare fixtures/zoo/llama-a fixtures/zoo/llama-b
	$(BIN)/lineage tree --from fixtures/demo.txt

test: $(STAMP)   ## fast suite
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

check: $(STAMP)  ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .cache/import-linter

calibrate: $(STAMP)  ## long null counts; rewrites docs/methods/calibration.md and trees-measured.md
	$(BIN)/python tests/calibration/run.py
	$(BIN)/python tests/calibration/trees.py

trees: $(STAMP)  ## how right trees are; rewrites docs/methods/trees-measured.md
	$(BIN)/python tests/calibration/trees.py

bench: $(STAMP)  ## benchmarks with timing on
	$(BIN)/python -m pytest -q benchmarks --benchmark-enable --benchmark-only --benchmark-columns=min,median,rounds

bench-table: $(STAMP)  ## the long measurements; rewrites docs/benchmarks.md and its picture
	$(BIN)/python benchmarks/table.py

outside: $(STAMP)  ## tests that need an outside program; they fail when it is missing
	$(BIN)/python -m pytest -q -m outside

zoo: $(STAMP)    ## train the fixture models anew (extra zoo: torch)
	$(BIN)/pip install --quiet -e ".[dev,zoo]"
	$(BIN)/python fixtures/make_zoo.py
	$(BIN)/python fixtures/nursery.py

clean:           ## forget environment and caches
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
