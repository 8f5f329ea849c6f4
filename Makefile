# What a clone can do with Python >= 3.11 and make. `make` alone lists it.

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEVICES ?= 1000000
PYTHONS ?= python3.14 python3.13 python3.12 python3.11 python3 python

.DEFAULT_GOAL := help
FUZZ_SECONDS ?= 600

.PHONY: help run test check lint docs proto bench bench-full bench-micro fuzz peers clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(STAMP) ## a registry with its feed, a node that follows it, questions (DEVICES=1000000)
	@exec $(BIN)/eir demo --devices $(DEVICES)

test: $(STAMP) peers ## run the whole suite
	@$(BIN)/python -m pytest

peers: ## install what others wrote and the tests talk to, where root may; say what is missing
	@tests/peers/install.sh || true

check: lint test ## everything that must hold before a change is merged: lint and test

lint: $(STAMP) ## style, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: $(STAMP) ## write the pages that are made from code: docs/settings.md, docs/cli.md
	@$(BIN)/python -m eir.ops.pages docs

fuzz: $(STAMP) ## fuzz the S13 codec and peer for FUZZ_SECONDS (default: ten minutes)
	@if $(BIN)/python -c 'import atheris' 2>/dev/null; then \
	    $(BIN)/python -m tests.fuzz.fuzz_s13 -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1; \
	else \
	    echo "NOT FUZZED: atheris has no wheel for this Python (extra: fuzz)" >&2; \
	fi

proto: $(STAMP) ## make eir/wire/ from proto/
	@$(BIN)/python proto/generate.py

bench: $(STAMP) ## measure beside peers, minutes (DEVICES=1000000): docs/benchmarks.md
	@$(BIN)/python -m bench.run --devices $(DEVICES) --growth 100000 $(BENCH)

bench-full: $(STAMP) ## the same with 10^8 devices: an hour, 60 GB of scratch space
	@$(BIN)/python -m bench.run --devices 100000000 --growth 100000,1000000,10000000 $(BENCH)

bench-micro: $(STAMP) ## micro benchmarks beside the saved baseline
	@$(BIN)/python -m pytest bench/micro bench/test_kernel.py --benchmark-group-by=name \
	    --benchmark-columns=median,iqr,rounds --benchmark-compare=bench/micro/baseline.json

clean: ## take away what these targets made, the environment included
	@rm -rf $(VENV) .eir build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	    .benchmarks .coverage
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Made anew whenever packaging changes; otherwise as old as it is, so that a second run is quick.
$(STAMP): setup.py pyproject.toml
	@set -e; python=; \
	for each in $(PYTHONS); do \
	    if $$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        python=$$each; break; \
	    fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "Python 3.11 or newer is needed, and none was found (looked for: $(PYTHONS))." >&2; \
	    echo "Install one, or name it: make PYTHONS=/path/to/python3.11" >&2; \
	    exit 1; \
	fi; \
	if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "$$python can't make virtual environments: on Debian or Ubuntu, install python3-venv." >&2; \
	    exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$($$python --version) ..."; \
	$$python -m venv $(VENV); \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all]'; \
	touch $@
