# Two commands on a fresh machine with Python 3.11 to 3.13 and make:
#   make run    set everything up and serve http://127.0.0.1:8000
#   make test   set everything up and pass the tests

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export STENOBOX_DATA ?= $(CURDIR)/data
# uv, where there is one, shares its cache between environments and is several times faster.
UV := $(shell command -v uv 2>/dev/null)

.PHONY: run test coverage lint bench hostile overload chaos format constraints clean

run: $(BIN)/.installed
	@$(BIN)/stenobox serve

test: $(BIN)/.installed-dev
	@tools/find-chromium
	@tools/find-faketime
	@$(MAKE) --no-print-directory lint
	@tools/run-tests

# The same, and what of the code no test reaches.
coverage: $(BIN)/.installed-dev
	@tools/find-chromium
	@tools/find-faketime
	@COVERAGE=1 tools/run-tests

lint: $(BIN)/.installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# Ratios, not times: a crowd of 500, refusals beside a bare application, clients that wait as they were told.
bench: $(BIN)/.installed-dev
	@$(BIN)/python tools/bench.py
	@$(BIN)/python tools/bench_uploads.py

# Half an hour: ten minutes each in memory control groups of 1.5, 2 and 4 GB (Linux, root).
overload: $(BIN)/.installed-dev
	@$(BIN)/python tools/overload.py

# An hour: every way to be killed, frozen, filled up or set back, twenty times with other delays (CHAOS_SEED repeats).
chaos: $(BIN)/.installed-dev
	@tools/find-faketime
	@CHAOS=long OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -s -m chaos tests

# The hostile corpus with 500 random mutations instead of 120: two minutes.
hostile: $(BIN)/.installed-dev
	@STENOBOX_MUTATIONS=500 $(BIN)/python -m pytest -q -s tests/test_corpus.py

format: $(BIN)/.installed-dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# An environment is rebuilt when what it is made from changes; otherwise these cost nothing.
$(BIN)/.installed: pyproject.toml constraints.txt tools/install
	@PYTHON="$(PYTHON)" UV="$(UV)" tools/install $(VENV) .
	@touch $@

$(BIN)/.installed-dev: $(BIN)/.installed
	@PYTHON="$(PYTHON)" UV="$(UV)" tools/install $(VENV) ".[dev]"
	@touch $@

# The versions that were tested together, by name alone: no addresses, so any index will do.
constraints: $(BIN)/.installed-dev
	@UV="$(UV)" tools/freeze $(BIN)/python > constraints.txt.new && mv constraints.txt.new constraints.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .coverage* dist
