.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
PYTEST := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest --durations 10
IN_PARALLEL := -n 2 --dist loadfile
INSTALL := $(BIN)/pip install -q --disable-pip-version-check

# tallymark reads these where make calls it; as variables of the environment, so that no blank or apostrophe ends them.
$(foreach name,DATA OUT BATCH VARS SHUFFLE KILLS SEED WITHOUT_MISSING,$(eval export MAKE_$(name) = $$($(name))))

# Those of another Python would keep this one from starting. The local stack drops all others that are not its own.
unexport PYTHONHOME PYTHONOPTIMIZE PYTHONSAFEPATH PYTHONWARNINGS

COMMANDS := demo up down doctor replay verify rebuild certify
.PHONY: help $(COMMANDS) spark-demo secrets backup restore test test-system test-all test-spark test-compose test-faults fuzz outages bench bench-quick bench-spark screenshots audit-dependencies docs lint clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /	/' | expand -t 20

demo:  ## X and Y over generated data, or DATA=<folder with transactions.csv(.gz)>, with a summary
up:  ## the same, but it stays; prints the address of the Airflow UI
down:  ## stops what make up started
doctor:  ## checks settings, bucket, connection and the warehouse's folder before the first run
replay:  ## DATA=<folder like the bucket> OUT=<folder> [BATCH=<chunks>] [VARS='<dbt vars, YAML>']
verify:  ## proves from the bucket, or DATA=<folder like the bucket>, that every detection file is there
rebuild:  ## makes a lost warehouse again from the bucket, or DATA=<folder> [OUT=<folder of make replay>]
certify:  ## one digest of what comes out, however chunks are batched: [DATA=<folder>] [SHUFFLE=<seed>] [VARS=...]
$(COMMANDS): .venv/installed
	@$(BIN)/tallymark $@

spark-demo: .venv/installed-spark .venv/spark/installed  ## make demo with raw rows and state on Spark and Delta; needs Java 17
	@TALLYMARK_ENGINE=spark $(BIN)/tallymark demo

secrets:  ## writes .env for docker-compose.yaml, with fresh secrets; docs/operations.md goes on from there
	@$(PYTHON) plugins/tallymark/cli/env_file.py

backup:  ## TO=<new folder>: of docker compose, the warehouse and Airflow's metadata; no chunk is taken meanwhile
restore:  ## FROM=<folder of make backup>: puts both in place of what is there
backup restore:
	@deploy/backup.sh $@

test: .venv/installed-dev lint  ## everything to know before pushing, on a busy machine too: no clock, no browser decides it
	@$(PYTEST) $(IN_PARALLEL) -m 'not system and not docker and not spark'
test-system: .venv/installed-dev  ## what depends on time, a browser, many kills or outages; before a release
	@$(PYTEST) $(IN_PARALLEL) -m 'system and not spark'
test-all: .venv/installed-dev lint  ## both
	@$(PYTEST) $(IN_PARALLEL) -m 'not docker and not spark'
test-spark: .venv/installed-dev .venv/spark/installed  ## the pipeline on Apache Spark and Delta; needs Java 17
	@$(PYTEST) -m spark
test-compose: .venv/installed-dev  ## docker-compose.yaml under kills, hangs, backup and restore; an hour; needs a Docker engine
	@$(PYTEST) -m docker
test-faults: .venv/installed-dev  ## kills whatever does the work, 200 times and more; figures in docs/reliability/
	@TALLYMARK_FIGURES=1 TALLYMARK_KILLS=$(or $(KILLS),160) TALLYMARK_AIRFLOW_KILLS=$(or $(AIRFLOW_KILLS),20) \
		$(PYTEST) tests/system/test_crashes.py tests/system/test_airflow_accidents.py
fuzz: .venv/installed-dev  ## loads MUTANTS=<10000> damaged chunks and writes docs/reliability/input.md
	@TALLYMARK_FIGURES=1 TALLYMARK_MUTANTS=$(or $(MUTANTS),10000) $(PYTEST) tests/intake tests/pipeline/test_load.py
outages: .venv/installed-dev  ## lets S3 fail in every way and writes docs/reliability/outages.md
	@TALLYMARK_FIGURES=1 $(PYTEST) tests/system/test_outages.py
screenshots: .venv/installed-dev  ## lets the browser tests write the pictures in docs/images
	@TALLYMARK_SCREENSHOTS=1 $(PYTEST) tests/system/test_browser.py

bench:  ## measures it all [DATA=<folder>] [ONLY=<measurement,...>], 40 minutes; writes docs/performance.md
bench-quick:  ## smaller variants of the same, a few minutes
bench bench-quick: .venv/installed-bench
	@PYTHONPATH=plugins:. $(BIN)/python -m benchmarks $(if $(findstring quick,$@),--quick) \
		$(if $(DATA),--data="$$DATA") $(if $(ONLY),--only="$$ONLY")

bench-spark: .venv/installed-bench .venv/spark/installed  ## DuckDB and Spark side by side, an hour; writes docs/scaling.md; needs Java 17
	@PYTHONPATH=plugins:.:tests $(BIN)/python -m benchmarks.scaling $(if $(SIZES),--sizes="$$SIZES")

clean:  ## removes the virtual environment and local data
	rm -rf .venv .local

audit-dependencies:  ## looks the locked versions up in the database of known holes, which takes the internet
	@$(PYTHON) -m venv .local/pip-audit && .local/pip-audit/bin/pip install -q --disable-pip-version-check pip-audit
	@.local/pip-audit/bin/pip-audit --strict --no-deps --disable-pip -r requirements.txt -r requirements-spark.txt -r requirements-celery.txt -r requirements-dev.txt -r requirements-bench.txt

docs: .venv/installed  ## writes docs/settings.md, and docs/models.html about the dbt project, which the page Detections links to
	@cd dbt_project && TALLYMARK_WAREHOUSE=../.local/docs/warehouse.duckdb ../$(BIN)/dbt --quiet docs generate --static \
		--empty-catalog --profiles-dir . --target-path ../.local/docs --log-path ../.local/docs
	@cp .local/docs/static_index.html docs/models.html
	@$(BIN)/tallymark settings >docs/settings.md
	@echo "docs/models.html docs/settings.md"

lint: .venv/installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PYTHONPATH=plugins $(BIN)/lint-imports --no-cache --no-logo
	@cd dbt_project && ../$(BIN)/sqlfluff lint -q models patterns tests
	@$(BIN)/oxlint --deny-warnings plugins/tallymark/page
	@$(BIN)/oxfmt --check plugins/tallymark/page

.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info[:2] <= (3, 13) or sys.exit("ERROR: Tallymark needs Python " \
		"3.11, 3.12 or 3.13, and %s is %d.%d. Choose another one, as in: make PYTHON=python3.12" \
		% ((sys.executable,) + sys.version_info[:2]))'
	@echo "Installing into .venv, which takes a minute or two ..."
	@$(PYTHON) -m venv .venv
	@$(INSTALL) -r requirements.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

# Its pyspark has the modules of pyspark-client, which .venv has.
.venv/spark/installed: requirements-spark-server.txt .venv/installed
	@echo "Installing Spark into .venv/spark, 450 MB ..."
	@$(PYTHON) -m venv .venv/spark
	@.venv/spark/bin/pip install -q --disable-pip-version-check -r $<
	@touch $@

.venv/installed-spark: requirements-spark.txt .venv/installed
.venv/installed-dev: requirements-dev.txt .venv/installed
.venv/installed-bench: requirements-bench.txt .venv/installed-dev
.venv/installed-spark .venv/installed-dev .venv/installed-bench:
	@echo "Installing $< ..."
	@$(INSTALL) -r $<
	@touch $@
