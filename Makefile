# Everything runs in .venv, which is made on first use and renewed when pyproject.toml or a
# lock changes. `make run` installs only what craftsync itself needs, all other targets the rest
# as well. Needs: git, make, Python 3.11 or newer with venv.

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

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --only-binary :all: \
	--generate-hashes --custom-compile-command "make lock"
# Nothing comes from the registry but the files whose hashes are in the lock, not even for the build.
INSTALL := $(PIP) install --no-deps --only-binary :all: --require-hashes --requirement
ITSELF  := $(PIP) install --no-deps --no-build-isolation --editable .

# Each of some hundred processes would compile all it loads, every time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test check lint reference round-trips notebook man docs test-exhaustive test-browser screenshots campaign bench lock clean

run: $(VENV)/.core        ## See a folder and a store being kept in sync.
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

man: $(VENV)/.core        ## Write man pages, made from the help, below build/man.
	@$(BIN)/python docs/manual.py build/man

notebook: $(VENV)/.locked   ## Run docs/notebook.ipynb and keep what it shows, also as docs/notebook.md.
	$(BIN)/python docs/notebook.py

round-trips: $(VENV)/.locked  ## Write the tables of docs/benchmarks.md that count requests and waits.
	$(BIN)/python -m tests.support.round_trips

docs: $(VENV)/.locked     ## Build the site of docs/ into build/site; broken links are errors.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "The site: build/site/index.html"

test-exhaustive: $(VENV)/.locked  ## Run the full enumerations too, and start each command anew; takes minutes.
	CRAFTSYNC_TEST_START=anew $(BIN)/python -m pytest -m "not campaign and not browser"

test-browser: $(VENV)/.locked ## Click through the page in a browser; needs Debian's chromium.
	$(BIN)/python -m pytest -m browser -n 2 tests/ui

screenshots: $(VENV)/.locked ## Take the pictures of the page in a browser again; needs Debian's chromium.
	$(BIN)/python docs/screenshots.py

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
	$(BIN)/$(COMPILE) --extra check --output-file requirements.lock pyproject.toml $(ARGS)
	$(BIN)/$(COMPILE) --extra build --constraint requirements.lock \
		--output-file requirements.core.lock pyproject.toml

clean:                    ## Remove everything that was made here.
	rm -rf $(VENV) demo benchmarks/.work build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.core: pyproject.toml requirements.core.lock
	@echo "Setting up $(VENV), once: $$(grep -c '^[a-z].*==' requirements.core.lock) packages, some 20 MB to download, 10 to 20 seconds."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) requirements.core.lock --no-compile
	@$(ITSELF)
	@touch $@

$(VENV)/.locked: $(VENV)/.core requirements.lock
	@echo "Adding the tests' own packages, once: $$(grep -c '^[a-z].*==' requirements.lock) in all, some minutes."
	@$(INSTALL) requirements.lock
	@touch $@

$(VENV)/.bench: $(VENV)/.locked
	@$(PIP) install --editable '.[bench]'
	@touch $@
