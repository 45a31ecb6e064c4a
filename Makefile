# Each target makes .venv if need be, installs into it what it needs, and runs.

PYTHON ?= python3
BIN := .venv/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
INSTALL := $(BIN)/python $(PIP_INSTALL) -c constraints.txt
SET_UP := setup.cfg pyproject.toml constraints.txt

.PHONY: demo test test-min test-slow coverage bench bench-accuracy bench-dcase2020 docs lint clean

## Train on built-in sounds and print a table of results. DATA=<folder> takes real
## recordings instead, ID=<column> what tells machines apart, RATE=<Hz> a sample rate.
demo: .venv/.demo
	$(BIN)/sklearn-asd demo $(if $(DATA),--data "$(DATA)") $(if $(ID),--id-column "$(ID)") $(if $(RATE),--sample-rate "$(RATE)")

## Run the tests, but for those that train for minutes.
test: .venv/.test
	$(BIN)/python -m pytest -m "not slow"

## Run the same tests with the oldest version of each dependency that setup.cfg promises.
test-min: .venv/min/.test
	.venv/min/bin/python -m pytest -m "not slow"

## Run the tests that train for minutes on real recordings.
test-slow: .venv/.test
	$(BIN)/python -m pytest -m slow tests

## Run the tests and tell which lines and branches of the package they leave out.
coverage: .venv/.test
	$(BIN)/python -m coverage run -m pytest -m "not slow"
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

## Measure speed and memory against plain ways, and write docs/benchmarks.md. Takes 20
## minutes of a machine that does nothing else, and 8 GB of disk for a while.
bench: .venv/.bench
	$(BIN)/python benchmarks/bench.py

## Compare all detectors on real recordings: DATA=<folder>, as CONTRIBUTING.md says.
bench-accuracy: .venv/.bench
	$(BIN)/python benchmarks/real_clips.py "$(DATA)"

## Compute the paper's Table 3 from a folder of DCASE 2020: DATA=<folder>.
bench-dcase2020: .venv/.demo
	$(BIN)/python benchmarks/dcase2020.py --data "$(DATA)"

## Build the pages of docs/ and run the examples: docs/_build/html/index.html. A broken
## link or example is an error.
docs: .venv/.docs
	$(BIN)/python -m sphinx -W --keep-going docs docs/_build/html

## Check style, docstrings and types.
lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/numpydoc lint $$(find sklearn_asd -name '[a-z]*.py')
	$(BIN)/mypy

clean:
	rm -rf docs/_build docs/gallery docs/generated docs/sg_execution_times.rst
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

.venv/.python:
	$(PYTHON) -m venv .venv
	touch $@

.venv/.demo: .venv/.python $(SET_UP)
	$(INSTALL) -e .
	touch $@

.venv/.test: .venv/.python $(SET_UP)
	$(INSTALL) -e ".[test]"
	touch $@

.venv/min/.test: $(SET_UP) constraints-min.txt
	$(PYTHON) -m venv .venv/min
	.venv/min/bin/python $(PIP_INSTALL) -c constraints-min.txt -e ".[test]"
	touch $@

.venv/.bench: .venv/.python $(SET_UP)
	$(INSTALL) -e ".[bench]"
	touch $@

.venv/.docs: .venv/.python $(SET_UP)
	$(INSTALL) -e ".[docs]"
	touch $@

.venv/.dev: .venv/.python $(SET_UP)
	$(INSTALL) -e ".[dev]"
	touch $@
