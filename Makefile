# Two commands are enough on a fresh machine: `make train` and `make test` install what is missing first.
PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=
# Two processes, each test file in one of them (files share short trainings).
PYTEST  = $(BIN)/python -m pytest -n 2 --dist loadfile
BIN     = $(VENV)/bin
TABLES ?= loss training inference scaling metrics pipeline attention execution startup

.DEFAULT_GOAL := help
.PHONY: help setup train test test-all lint bench format clean

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo '  make train ARGS="backbone=vit_b16 dataset=folder dataset.root=DIR"'

setup: $(VENV)/.installed ## Create .venv and install the project with everything its tests need

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV); the first time takes a few minutes"
	@# -qq: errors only. One -q shows setuptools' general advice on editable installations as a warning.
	$(BIN)/python -m pip install -qq --disable-pip-version-check --editable ".[dev]"
	@touch $@

train: setup ## Train; without ARGS: Segmenter on drawn shapes, about a minute on a CPU
	$(BIN)/python train.py $(ARGS)

test: setup ## Run the tests (a few minutes on two cores)
	$(PYTEST) -m "not slow" $(ARGS)

test-all: setup ## Run all tests, the long ones too
	$(PYTEST) $(ARGS)

lint: setup ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup ## Measure the tables of benchmarks/ (an hour or more on two idle cores)
	for table in $(TABLES); do (cd benchmarks && OMP_NUM_THREADS=1 ../$(BIN)/python $$table.py) || exit 1; done

format: setup ## Apply the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove what tools and builds leave (runs/ and .venv/ stay)
	rm -rf build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
