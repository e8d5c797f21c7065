# Everything from a bare clone: make help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
HOSTS ?= 3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV_VERSION = $(shell sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements.lock)
LOCAL_STACK := PYTHONPATH=deploy:tests $(BIN)/python -m local_stack
# A virtual environment needs a Python with ensurepip; Debian keeps that in a package of its own.
HAVE_PYTHON = $(PYTHON) -c 'import ensurepip, venv, sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null
CODE := common services agent deploy tests

.PHONY: help
help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{printf "  \033[1m%-16s\033[0m %s\n", $$1, $$2}'

##### set-up

.PHONY: setup
setup: $(STAMP) system-packages ## make the virtual environment and install what the machine lacks

$(STAMP): requirements.lock pyproject.toml
	@$(HAVE_PYTHON) || deploy/system-packages python3 python3-venv
	@$(HAVE_PYTHON) || { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3 setup" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv==$(UV_VERSION)'
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --quiet --no-deps --editable .
	touch $@

.PHONY: system-packages
system-packages: ## install the Debian packages that are missing (broker, database, kernel of the hosts)
	@deploy/system-packages

.PHONY: lock
lock: $(STAMP) ## choose dependencies anew: write requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --all-extras --group dev \
	    --upgrade pyproject.toml -o requirements.lock

##### checks

.PHONY: lint
lint: $(STAMP) ## look for mistakes and bad form
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

.PHONY: format
format: $(STAMP) ## put the code into form
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

.PHONY: types
types: $(STAMP) ## check the types
	$(BIN)/mypy

.PHONY: contracts
contracts: $(STAMP) ## check that no piece imports another
	$(BIN)/lint-imports

.PHONY: test
test: setup ## run all tests, WORKERS=2 at a time, each with servers of its own; ARGS="-k vlan tests/integration" picks some
	$(BIN)/pytest -n $(WORKERS) --dist loadfile $(ARGS)

.PHONY: bench
bench: setup ## measure against bare baselines, results in .run/bench; ARGS="requests links" picks some
	@PYTHONPATH=deploy:tests $(BIN)/python -m bench $(ARGS)

##### documents

.PHONY: docs
docs: $(STAMP) ## write the generated tables of docs/ anew
	$(BIN)/python docs/generate_contract.py

##### the local stack

.PHONY: up
up: setup ## start broker, database, services and HOSTS=3 hosts on this machine; STACK=docker for containers
	@HOSTS=$(HOSTS) $(LOCAL_STACK) up

.PHONY: down
down: $(STAMP) ## stop all of it and remove its data
	@$(LOCAL_STACK) down

.PHONY: status
status: $(STAMP) ## show what is up; fails unless everything is
	@$(LOCAL_STACK) status

.PHONY: demo
demo: setup ## show networks and their services at work, every fact checked; KEEP=1 leaves it running
	@PYTHONPATH=deploy:tests $(BIN)/python -m demo $(ARGS)

.PHONY: clean
clean: ## stop the stack, remove the virtual environment and all caches
	@test ! -e .run || test ! -x $(BIN)/python || $(LOCAL_STACK) down
	rm -rf $(VENV) .run .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find $(CODE) -name __pycache__ -prune -exec rm -rf {} +
