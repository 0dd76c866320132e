# `make repro` and `make test` need python3 (3.11 or later), make and git; everything else they
# install into .venv.
PYTHON = python3
# Stage commands run `python`, which must be the environment's.
INSIDE = PATH="$(CURDIR)/.venv/bin:$$PATH"

.PHONY: help install repro test test-quick test-long lint docs clean
.DEFAULT_GOAL = repro

help: # these targets
	@sed -n 's/^\([a-z-]*\): # /make \1\t/p' Makefile | expand -t 17

install: # only the environment, in .venv
	@$(PYTHON) bootstrap.py

repro: # the whole DAG on the corpora of params.yaml, then the comparison of the models
	@$(PYTHON) bootstrap.py
	@$(INSIDE) seqline check
	@$(INSIDE) seqline run # repairs first, records the runs in MLflow, and shows the results

test: # all tests but the long ones
	@$(PYTHON) bootstrap.py --dev
	@$(INSIDE) pytest -m "not long"

test-quick: # tests without servers, within a minute
	@$(PYTHON) bootstrap.py --dev
	@$(INSIDE) pytest -m quick

# Three workers for two cores: many of these tests wait for a server or a schedule.
test-long: # the others: flows with real servers, workers and schedules; kills and restarts
	@$(PYTHON) bootstrap.py --dev
	@$(INSIDE) pytest -m long -n 3

lint: # ruff and mypy, as pre-commit runs them
	@$(PYTHON) bootstrap.py --dev
	@$(INSIDE) ruff check .
	@$(INSIDE) ruff format --check .
	@$(INSIDE) mypy

docs: # the documentation as a site, in site/; a warning is an error
	@$(PYTHON) bootstrap.py --dev
	@$(INSIDE) NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true mkdocs build --quiet

clean: # the environment and the tools' caches; data, models and reports stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis seqline.egg-info site
