# Everything happens in .venv, which the first use creates. Needed: make, and Python 3.11 or newer.
#   make demo     a worker is killed in the middle of its work, and nothing is lost
#   make test     all tests           (make test TESTS="tests/replay -k timer")
#   make check    format, lint, types, import arrows
#   make format   put the code into shape
#   make docs     write docs/reference.md from the docstrings
#   make bench    measure             (make bench BENCH="steps postgres" for some parts)
#   make clean    remove whatever these made
PYTHON ?= python3
TESTS ?= tests
JOBS ?= auto
DEMO ?=
BENCH ?=
# Tests and figures are of processes that start by the hundred. None of them compiles what an installed package has compiled.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test check format docs bench clean
.DEFAULT_GOAL := test

$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "Perdure needs Python 3.11 or newer, and there is no '$(PYTHON)' here. Install one, or name it: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Perdure needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name a newer one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "'$(PYTHON)' cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@test ! -x $(BIN)/python || $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "The Python in .venv is older than 3.11. Remove it with: make clean"; exit 1; }
	@test -x $(BIN)/python || { echo "Creating .venv with $$($(PYTHON) -V)"; $(PYTHON) -m venv .venv; }
	@echo "Installing Perdure and what its tests need into .venv (only once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/python -m perdure.demo $(DEMO)

test: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(TESTS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict src $(wildcard tests/typing)
	$(BIN)/lint-imports --no-logo

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)
	$(BIN)/python docs/make_reference.py

bench: $(STAMP)
	$(BIN)/python -m bench.run $(BENCH)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist perdure-demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
