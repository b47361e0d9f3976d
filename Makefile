# Two commands set everything up: `make run` and `make test`.
PYTHON ?= python3
FOR ?=
SUMMARY ?=
BIN := .venv/bin

.PHONY: run test test-parity test-ray soak lint bench clean

# The environment is stale when pyproject.toml is newer than its stamp.
.venv/stamp: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

run: .venv/stamp
	$(BIN)/tickring up configs/demo.toml $(if $(FOR),--for $(FOR)) $(if $(SUMMARY),--summary $(SUMMARY))

# Two at a time: tests trade with real processes, more of them would starve each other.
test: .venv/stamp
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# hftbacktest pins numpy, and Ray is large: each has an environment of its own.
.venv-hftbacktest/stamp:
	$(PYTHON) -m venv .venv-hftbacktest
	.venv-hftbacktest/bin/python -m pip install --quiet --disable-pip-version-check "hftbacktest>=2.4,<2.5"
	touch $@

test-parity bench: export TICKRING_HFTBACKTEST_PYTHON := $(CURDIR)/.venv-hftbacktest/bin/python

test-parity: .venv/stamp .venv-hftbacktest/stamp
	$(BIN)/python -m pytest tests/processes/backtest/test_hftbacktest.py

.venv-ray/stamp: pyproject.toml
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,ray]"
	touch $@

test-ray: .venv-ray/stamp
	.venv-ray/bin/python -m pytest tests/ray_cluster

# Half an hour of demo runs with kills, each replayed and compared.
soak: .venv/stamp
	$(BIN)/python -m tests.system.soak

lint: .venv/stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/stamp .venv-hftbacktest/stamp
	$(BIN)/python -m bench

clean:
	rm -rf .venv .venv-hftbacktest .venv-ray .pytest_cache .mypy_cache .ruff_cache .hypothesis
