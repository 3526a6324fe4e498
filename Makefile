# Everything goes through packaging/setup first: on a fresh Debian 12 or 13 each target just works, as root at once,
# otherwise after the one command that it names.

BIN := .venv/bin

.PHONY: lab test check bench docs clean setup

lab: setup
	@$(BIN)/oe lab

test: check
	@packaging/isolated $(BIN)/pytest

check: setup
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

bench: setup
	@$(BIN)/python -m bench

docs: setup
	@$(BIN)/python docs/generate.py

setup:
	@packaging/setup

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
