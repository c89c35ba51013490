# Everything runs in .venv, which is made on first use and renewed when
# pyproject.toml or requirements.lock changes. Needs: git, make, Python 3.11 or newer with venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check

# Of the random histories that `make campaign` runs.
HISTORIES ?= 10000
SEED      ?= 1
# Runs of the installed program that it kills or fails, most of them at a system call; needs strace.
INJECTED  ?= 400
# Power cuts on filesystems in images; needs root.
CUTS      ?= 200

.PHONY: run test check lint reference test-exhaustive test-browser campaign bench lock clean

run: $(VENV)/.locked      ## See a folder and a store being kept in sync.
	@$(BIN)/python docs/demo.py

test: $(VENV)/.locked     ## Run the tests.
	$(BIN)/python -m pytest

check: lint test          ## Run the linters, the type checker and the tests.

lint: $(VENV)/.locked
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

reference: $(VENV)/.locked  ## Write what is made from the table of options: config.example.yaml, docs/configuration.md.
	$(BIN)/python -m craftsync.config.reference

test-exhaustive: $(VENV)/.locked  ## Run the full enumerations too, and start each command anew; takes minutes.
	CRAFTSYNC_TEST_START=anew $(BIN)/python -m pytest -m "not campaign and not browser"

test-browser: $(VENV)/.locked ## Click through the page in a browser; needs Debian's chromium.
	$(BIN)/python -m pytest -m browser -n 2 tests/ui

campaign: $(VENV)/.locked ## Run at full size what the tests try in small; takes minutes.
	$(BIN)/python -m pytest -m campaign
	$(BIN)/python -m tests.simulator --histories $(HISTORIES) --seed $(SEED) --jobs 2
	$(BIN)/python -m tests.zoo
	$(BIN)/python -m tests.injected --runs $(INJECTED) --seed $(SEED)
	$(BIN)/python -m tests.faults --seed $(SEED)
	$(BIN)/python -m tests.powercuts --cuts $(CUTS) --seed $(SEED)

bench: $(VENV)/.bench     ## Measure craftsync beside its peers; ARGS="--quick" for a trial.
	$(BIN)/python -m benchmarks $(ARGS)

lock:                     ## Pin again what pyproject.toml asks for; ARGS=--upgrade takes the newest.
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --only-binary :all: \
		--generate-hashes --extra check --custom-compile-command "make lock" \
		--output-file requirements.lock pyproject.toml $(ARGS)

clean:                    ## Remove everything that was made here.
	rm -rf $(VENV) demo benchmarks/.work build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Nothing comes from the registry but the files whose hashes are in the lock, not even for the build.
$(VENV)/.locked: pyproject.toml requirements.lock
	@echo "Setting up $(VENV); this is done once."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --no-deps --only-binary :all: --require-hashes --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.bench: $(VENV)/.locked
	@$(PIP) install --editable '.[bench]'
	@touch $@
