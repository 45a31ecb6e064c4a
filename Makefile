# Each target creates .venv if necessary, installs what it needs there, and runs.

PYTHON ?= python3
BIN := .venv/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
INSTALL := $(BIN)/python $(PIP_INSTALL) -c constraints.txt
SET_UP := setup.cfg pyproject.toml constraints.txt
# Two processes with one thread each: torch's threads would compete for the cores. Each
# begins with half of the files, so that what tests of a file share is made
# once, and takes from the other what is left.
RUN_TESTS := -m pytest -n 2 --dist worksteal -m "not slow"
# What tells least about the versions of dependencies takes longest: pages, benchmarks,
# the real command.
FEWER := $(addprefix --ignore=tests/,test_documents.py test_benchmarks.py _cli)

.PHONY: demo test test-min test-new test-slow coverage docs lint clean
.PHONY: bench bench-accuracy bench-dcase bench-localization bench-precision
.PHONY: bench-submissions

## Train two detectors on built-in sounds, print tables of results, and write a picture of
## them to sklearn-asd-demo.png. DATA=<folder> takes real recordings instead, ID=<column>
## the attribute that tells machines apart, RATE=<Hz> the sample rate.
demo: .venv/.demo
	$(BIN)/sklearn-asd demo $(if $(DATA),--data "$(DATA)") $(if $(ID),--id-column "$(ID)") $(if $(RATE),--sample-rate "$(RATE)")

## Run all tests but those that train for minutes.
test: .venv/.test
	OMP_NUM_THREADS=1 $(BIN)/python $(RUN_TESTS)

## Run the same tests with the oldest version of each dependency that setup.cfg promises.
test-min: .venv/min/.test
	OMP_NUM_THREADS=1 .venv/min/bin/python $(RUN_TESTS)

## Run tests with the newest version of each dependency that there is for this Python, but
## the torch of constraints.txt: a newer one is gigabytes. Afterwards docs/versions.md may
## name them.
test-new: $(SET_UP)
	$(PYTHON) -m venv .venv/new
	.venv/new/bin/python $(PIP_INSTALL) --upgrade --upgrade-strategy eager \
		"$$(grep ^torch= constraints.txt)" -e ".[test]"
	OMP_NUM_THREADS=1 .venv/new/bin/python $(RUN_TESTS) $(FEWER)

## Run the tests that train for minutes on real recordings.
test-slow: .venv/.test
	$(BIN)/python -m pytest -m slow tests

## Run the tests and list the lines and branches of the package that they do not reach.
coverage: .venv/.test
	$(BIN)/python -m coverage run -m pytest -m "not slow"
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

## Measure speed and memory against plain code, and write docs/benchmarks.md. Takes 25
## minutes on a computer that does nothing else, and 8 GB of disk meanwhile.
bench: .venv/.bench
	$(BIN)/python benchmarks/bench.py

## Compare all detectors on real recordings: DATA=<folder>, see CONTRIBUTING.md.
bench-accuracy: .venv/.bench
	$(BIN)/python benchmarks/accuracy_real_clips.py "$(DATA)"

## Rate systems on DCASE Task 2 of a year. DATA=<folder> of the recordings, YEAR=2020,
## SYSTEM=paper: as described in docs/accuracy.md.
bench-dcase: .venv/.demo
	$(BIN)/python benchmarks/dcase.py --year $(or $(YEAR),2020) --data "$(DATA)" --system $(or $(SYSTEM),paper)

## Measure whether explanations name the right place: DATA=<folder>, see CONTRIBUTING.md.
bench-localization: .venv/.demo
	$(BIN)/python benchmarks/accuracy_localization.py "$(DATA)"

## Combine the scores of four systems submitted to DCASE 2020: DATA=<folder>.
bench-submissions: .venv/.demo
	$(BIN)/python benchmarks/accuracy_submissions.py "$(DATA)"

## Compare the accuracy of bfloat16 and float32: DATA=<folder>, see CONTRIBUTING.md.
bench-precision: .venv/.demo
	$(BIN)/python benchmarks/accuracy_precision.py "$(DATA)"

## Build docs/_build/html/index.html and run the examples. A broken link or example is
## an error.
docs: .venv/.docs
	$(BIN)/python -m sphinx -W --keep-going docs docs/_build/html

## Check style, docstrings and types.
lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/numpydoc lint $$(find sklearn_asd -name '*.py')
	$(BIN)/mypy

clean:
	rm -rf docs/_build docs/gallery docs/generated docs/sg_execution_times.rst
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

.venv/.python:
	$(PYTHON) -m venv .venv
	touch $@

.venv/.demo: .venv/.python $(SET_UP)
	$(INSTALL) -e ".[plot]"
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
