.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
TALLYMARK := PYTHONPATH=plugins $(BIN)/python -m tallymark

.PHONY: help demo up down replay test fuzz outages audit-dependencies lint clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /	/' | expand -t 20

demo: .venv/installed  ## X and Y over generated data, or DATA=<folder with transactions.csv(.gz)>, with a summary
	@$(TALLYMARK).local_stack demo $(if $(DATA),--data '$(DATA)')

up: .venv/installed  ## the same, but it stays; prints the address of the Airflow UI
	@$(TALLYMARK).local_stack up $(if $(DATA),--data '$(DATA)')

down: .venv/installed  ## stops what make up started
	@$(TALLYMARK).local_stack down

replay: .venv/installed  ## DATA=<folder like the bucket> OUT=<folder> [BATCH=<chunks>] [VARS='<dbt vars, YAML>']
	@$(TALLYMARK).replay '$(or $(DATA),$(error DATA=<folder> is missing))' '$(or $(OUT),$(error OUT=<folder> is missing))' \
		$(if $(BATCH),--batch $(BATCH)) $(if $(VARS),--vars '$(VARS)')

test: .venv/installed-dev lint  ## everything to know before pushing: lint, unit, dbt, DAGs, end to end
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest

fuzz: .venv/installed-dev  ## loads MUTANTS=<10000> damaged chunks and writes docs/reliability/input.md
	@PATH="$(CURDIR)/$(BIN):$$PATH" TALLYMARK_FIGURES=1 TALLYMARK_MUTANTS=$(or $(MUTANTS),10000) $(BIN)/pytest tests/test_fuzz.py tests/test_load.py

outages: .venv/installed-dev  ## lets S3 fail in every way and writes docs/reliability/outages.md
	@PATH="$(CURDIR)/$(BIN):$$PATH" TALLYMARK_FIGURES=1 $(BIN)/pytest tests/test_outages.py

audit-dependencies:  ## looks the locked versions up in the database of known holes, which takes the internet
	@$(PYTHON) -m venv .local/pip-audit && .local/pip-audit/bin/pip install -q --disable-pip-version-check pip-audit
	@.local/pip-audit/bin/pip-audit --strict --no-deps --disable-pip -r requirements.txt -r requirements-dev.txt

lint: .venv/installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@cd dbt_project && ../$(BIN)/sqlfluff lint -q models tests

clean:  ## removes the virtual environment and local data
	rm -rf .venv .local

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Tallymark needs Python 3.11 or newer; try make PYTHON=python3.12 ...")'
	@echo "Installing into .venv, which takes a minute or two ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install -q --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	@echo "Installing what the tests need ..."
	@$(BIN)/pip install -q --disable-pip-version-check -r requirements-dev.txt
	@touch $@
