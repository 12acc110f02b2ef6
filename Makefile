# Each target does its own set-up, in a virtual environment of its own (.venv).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# as many test processes as there are cores to use, 4 at most
PROCESSES ?= $(shell n=$$(env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 2); test $$n -le 4 || n=4; echo $$n)
export OMP_NUM_THREADS ?= 1
export WANDB_SILENT ?= true
# set to nothing: commands that the tests start find medseg compiled
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test test-all nightly lint format docs wheel bench pages clean

help:  ## what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m compileall -qq -j $(PROCESSES) -x /tests/ $(VENV)/lib || true  # in all processes; pip takes one
	touch $@

demo: $(VENV)/.ready  ## train on the phantom, predict, evaluate, draw a picture: demo/
	PATH="$(CURDIR)/$(BIN):$$PATH" bash scripts/demo.sh

test: $(VENV)/.ready  ## all fast tests and doctests
	$(BIN)/python -m pytest -q -n $(PROCESSES) --dist worksteal

test-all: $(VENV)/.ready  ## the slow ones too
	$(BIN)/python -m pytest -q -n $(PROCESSES) --dist worksteal -m 'not gpu and not nightly'

nightly: $(VENV)/.ready  ## all networks of timm, every size, slow tests of networks, options and experiments
	$(BIN)/python -m pytest -q -n $(PROCESSES) --dist worksteal -m '(slow or nightly) and not gpu' tests/models tests/test_conf.py

$(VENV)/.docs: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,docs]'
	touch $@

docs: $(VENV)/.docs  ## the pages as HTML, in docs/_build; a warning is an error
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build

pages: $(VENV)/.ready  ## write the pages again that are made of conf/ and of import statements
	$(BIN)/python scripts/write_choices.py
	$(BIN)/python scripts/write_keys.py
	$(BIN)/python scripts/draw_layers.py

wheel: $(VENV)/.ready  ## the wheel in dist/, installed alone and used from an empty folder
	$(BIN)/python scripts/check_wheel.py

bench: $(VENV)/.ready  ## each benchmark with a small budget; DATA=DIR for those that read data sets
	$(BIN)/python scripts/bench_all.py $(if $(DATA),--data $(DATA))

format: $(VENV)/.ready  ## bring the code into shape
	$(BIN)/ruff check --fix medseg tests scripts docs
	$(BIN)/ruff format medseg tests scripts docs

lint: $(VENV)/.ready  ## style and types
	$(BIN)/ruff format --check medseg tests scripts docs
	$(BIN)/ruff check medseg tests scripts docs
	$(BIN)/mypy

clean:  ## remove what was made
	rm -rf $(VENV) demo dist build docs/_build docs/notebooks docs/jupyter_execute
