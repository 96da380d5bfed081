# Every target does its own set-up: `make demo` or `make test` is enough on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Processes that share the tests, a thread each.
WORKERS ?= 2

.PHONY: demo test test-all lint docs bench clean
.DELETE_ON_ERROR:

$(VENV)/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable ".[dev]"
	touch $@

$(VENV)/.bench: $(VENV)/.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable ".[dev,bench]"
	touch $@

.typing/.stamp: pyproject.toml
	mkdir -p .typing/platewise
	for folder in data models guides inference posterior cli testing; do ln -sfn ../../$$folder .typing/platewise/$$folder; done
	touch $@

demo: $(VENV)/.stamp
	$(BIN)/platewise demo --force

test: $(VENV)/.stamp
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

test-all: $(VENV)/.stamp
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

lint: $(VENV)/.stamp .typing/.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Links within the site and their anchors are checked; those to other sites are not.
docs: $(VENV)/.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/ratings.py
	$(BIN)/python benchmarks/cells.py --final

clean:
	rm -rf $(VENV) .typing build dist site *.egg-info .pytest_cache
	find data models inference -name '*.nb[ic]' -delete
