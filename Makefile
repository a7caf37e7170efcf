# Two commands do all the set-up on a machine with Python >= 3.11 and make:
#   make run     serve on the embedded defaults
#   make test    the whole test suite
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test lint format bench lock clean
.DEFAULT_GOAL := help

help:
	@echo "make run | test | lint | format | bench | lock | clean"

$(VENV)/.runtime: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Lienthong needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up $(VENV); the first time this takes a minute or two."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	@echo "Adding the test tools to $(VENV)."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

# The viewer is fetched once; without npm, or without a network, everything else still runs.
run: $(VENV)/.runtime
	@test -n "$$LIENTHONG_CONFIG" || export LIENTHONG_DATA_DIR="$${LIENTHONG_DATA_DIR:-data}"; \
	$(BIN)/lienthong viewer install > /dev/null \
		|| echo "Serving without the image viewer; later: $(BIN)/lienthong viewer install"
	@$(BIN)/lienthong serve

test: $(VENV)/.dev
	$(BIN)/python -m tests.run $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python -m tests.bench.run $(ARGS)

# Pin every dependency with hashes; needs the `uv` program.
UV_COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header
lock:
	$(UV_COMPILE) pyproject.toml --group build -o requirements.lock
	$(UV_COMPILE) pyproject.toml --group build --group dev -c requirements.lock -o requirements-dev.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .import_linter_cache .pytest_cache
