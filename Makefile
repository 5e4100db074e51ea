# Needs Python 3.11 or newer with venv, and make. Everything else is installed into .venv.
#
# The stamps are named after the content of what they stand for (and the folder, because the
# scripts in .venv hold its path): nothing is installed twice, and a change is never missed.

.DEFAULT_GOAL := help
.PHONY: help install up test test-page test-deploy lint faults fuzz audit bench bench-check lock clean
SHELL := /bin/sh

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$python; break; }; done)
LOCKED := $(VENV)/.locked-$(shell { pwd; cat requirements.lock; } | cksum | tr ' ' -)
INSTALLED := $(VENV)/.installed-$(shell { pwd; cat requirements.lock pyproject.toml; } | cksum | tr ' ' -)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
ARGS ?=

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo '  Options of a command go into ARGS: make up ARGS="--ephemeral"'

install: $(INSTALLED) ## Create or update .venv from requirements.lock (skipped if nothing changed)

up: install ## Run the whole system on this machine
	@exec $(BIN)/parley up $(ARGS)

# A good part of the suite waits for real times: more workers than cores.
test: install ## Run the whole test suite against real Redis and PostgreSQL
	$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

test-page: install ## Run the tests of the chat page in Chromium, which must be installed
	@for program in chromium chromium-browser google-chrome google-chrome-stable; do \
		command -v $$program >/dev/null && exit 0; done; \
	echo "parley: no Chromium is installed; Debian has it: apt-get install chromium" >&2; exit 1
	$(BIN)/python -m pytest -n 2 tests/page $(ARGS)

test-deploy: install ## Run the tests with haproxy, nginx and promtool, which must be installed
	@PATH="$$PATH:/usr/sbin:/sbin"; for program in haproxy nginx promtool; do \
		command -v $$program >/dev/null || missing="$$missing $$program"; done; \
	test -z "$$missing" || { echo "parley: not installed:$$missing; Debian has them:" \
		"apt-get install haproxy nginx prometheus" >&2; exit 1; }
	$(BIN)/python -m pytest -n 2 tests/deploy $(ARGS)

lint: install ## Check style, types and import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: install ## Attack parsers and codecs for ten minutes (docs/fuzzing.md)
	$(BIN)/python -m tests.fuzz $(ARGS)

faults: install ## Random faults against a whole system, judged: make faults ARGS="--runs 10"
	@exec $(BIN)/python -m tests.faults.storm $(ARGS)

audit: install ## Ask the package index for known holes of the locked packages
	@.ci/audit

bench: install ## Measure this machine
	@exec $(BIN)/parley bench $(ARGS)

bench-check: install ## Compare the speed with what was recorded (on a quiet machine)
	@exec $(BIN)/parley bench check $(ARGS)

lock: ## Resolve the newest versions into requirements.lock (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
		--output-file requirements.lock

clean: ## Remove .venv and caches (never data)
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info

$(LOCKED): | check-python
	@echo "parley: installing the locked packages into $(VENV) ..." >&2
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --no-compile --require-hashes --requirement requirements.lock
	@touch $@

$(INSTALLED): $(LOCKED)
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.installed-*
	@touch $@

.PHONY: check-python
check-python:
	@test -n "$(PYTHON)" || { echo "parley: no Python 3.11 or newer found; name one: make PYTHON=..." >&2; exit 1; }
