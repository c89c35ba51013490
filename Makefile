# Everything runs in .venv, which is made on first use and renewed when
# pyproject.toml changes. Needs: git, make, Python 3.11 or newer with venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# Of the random histories that `make campaign` runs.
HISTORIES ?= 10000
SEED      ?= 1
# Runs of the installed program that it kills, or fails, at a system call; needs strace.
INJECTED  ?= 400

# $(call install,EXTRAS): make the environment if it is not there, and install into it.
define install
@echo "Setting up $(VENV) ($(1)); this is done once."
@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(1)]'
@touch $@
endef

.PHONY: run test check lint test-exhaustive campaign bench clean

run: $(VENV)/.test        ## See a folder and a store being kept in step.
	@$(BIN)/python docs/demo.py

test: $(VENV)/.test       ## Run the tests.
	$(BIN)/python -m pytest

check: lint test          ## Run the linters, the type checker and the tests.

lint: $(VENV)/.check
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

test-exhaustive: $(VENV)/.test  ## Run the full enumerations too, and start each command anew; takes minutes.
	CRAFTSYNC_TEST_START=anew $(BIN)/python -m pytest -m "not campaign"

campaign: $(VENV)/.test    ## Run at full size what the tests try in small; takes minutes.
	$(BIN)/python -m pytest -m campaign
	$(BIN)/python -m tests.simulator --histories $(HISTORIES) --seed $(SEED) --jobs 2
	$(BIN)/python -m tests.zoo
	$(BIN)/python -m tests.injected --runs $(INJECTED) --seed $(SEED)

bench: $(VENV)/.bench     ## Measure craftsync beside its peers; ARGS="--quick" for a trial.
	$(BIN)/python -m benchmarks $(ARGS)

clean:                    ## Remove everything that was made here.
	rm -rf $(VENV) demo benchmarks/.work build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.test: pyproject.toml
	$(call install,test)

$(VENV)/.check: pyproject.toml
	$(call install,check)

$(VENV)/.bench: pyproject.toml
	$(call install,bench)
