# Everything starts here: `make demo`, `make test`. No step needs anything but Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
JOBS ?= 2
# Real data and weights beside the checkout are used where they are; elsewhere MAMOL_DATA and MAMOL_WEIGHTS decide.
export MAMOL_DATA ?= $(if $(wildcard ../shared/data),$(abspath ../shared/data),)
export MAMOL_WEIGHTS ?= $(if $(wildcard ../shared/weights),$(abspath ../shared/weights),)
DEMO ?= demo

.PHONY: help install demo test check lint types tables docs bench study bench-speed bench-map clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*##/ {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/installed ## a virtual environment with mamol and its tools in .venv

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("mamol needs Python 3.11 or newer; this is " + sys.version.split()[0] + " (say PYTHON=python3.12)" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: install ## the main job on the embedded scene: train, evaluate with sensors missing, map, report
	$(BIN)/mamol demo --out $(DEMO)

test: install ## all tests
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

check: lint types ## lint, types, layers, tables and docs that are current
	$(BIN)/python benchmarks/table.py --check
	$(BIN)/python docs/make_pages.py --check

lint: install ## ruff and the layers of the imports
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/lint-imports --no-cache

types: install ## mypy
	$(BIN)/mypy

tables: install ## write the tables of README and docs from the records
	$(BIN)/python benchmarks/table.py

docs: install ## write docs/cli.md and docs/settings.md from the code
	$(BIN)/python docs/make_pages.py

bench: install ## run every experiment that has no record yet (hours; stop and start as you like)
	$(BIN)/python benchmarks/run.py

bench-speed: install ## measure what the mixture costs, as ratios in one run (a quarter of an hour on an idle machine)
	$(BIN)/python benchmarks/speed.py

study: install ## run every cell of the study that has no record yet (days on two cores; stop and start as you like)
	$(BIN)/python benchmarks/study.py

bench-map: install ## measure how fast maps are made, as ratios in one run (a quarter of an hour on an idle machine)
	$(BIN)/python benchmarks/maps.py

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build src/*.egg-info
