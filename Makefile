# The first of these that starts: pyenv has names of releases that it has not installed.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3 python; do \
	$$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$name && break; done)
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: install quickstart test test-slow quality bench attack fuzz clean

# The stamps make an install that was interrupted start again. The quickstart needs less than the tests.
$(VENV)/.quickstart: setup.cfg constraints.txt
	@test -n "$(PYTHON)" || { echo "This needs Python 3.11, 3.12 or 3.13, and none was found: install one, or say where" \
		"it is with make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[quickstart]"
	touch $@

$(VENV)/.installed: $(VENV)/.quickstart
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

install: $(VENV)/.installed

quickstart: $(VENV)/.quickstart
	$(BIN)/t3 quickstart

# One torch thread per test process: threads that share two cores wait for each other.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal

test: install
	$(PYTEST) -m "not slow"

test-slow: install
	$(PYTEST) -m slow

quality: install
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Folders that are swapped for links while every tool reads and writes there.
attack: install
	$(BIN)/python -m tests.attack --seconds 600

# Files with a few bytes changed: each must be read, or refused in one sentence.
fuzz: install
	$(BIN)/python -m tests.fuzz pictures --number 250000
	$(BIN)/python -m tests.fuzz documents --number 20000

bench: install
	@for script in tests/benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) build *.egg-info
