# make demo   the whole chain on this machine, live in seconds
# make node-red  the demo with a Node-RED dashboard, http://127.0.0.1:1880/dashboard
# make test   installs what the tests need and runs them
# make check  format, lint, types
# make bench  speed, printed as ratios

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo node-red test check bench format clean

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/evedge demo

node-red: $(STAMP)
	examples/node-red/start

test: $(STAMP)
	tests/prepare.sh
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	$(BIN)/python bench/run.py

clean:
	rm -rf $(VENV) .cache build dist .pytest_cache .mypy_cache .ruff_cache
