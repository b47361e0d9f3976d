# Two commands set everything up: `make run` and `make test`.
PYTHON ?= python3
FOR ?=
SUMMARY ?=
BIN := .venv/bin

.PHONY: run test lint bench clean

# The environment is stale when pyproject.toml is newer than its stamp.
.venv/stamp: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

run: .venv/stamp
	$(BIN)/tickring up configs/demo.toml $(if $(FOR),--for $(FOR)) $(if $(SUMMARY),--summary $(SUMMARY))

test: .venv/stamp
	$(BIN)/python -m pytest

lint: .venv/stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/stamp
	$(BIN)/python -m bench

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
