.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
PYTEST := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest --durations 10
IN_PARALLEL := -n 2 --dist loadfile
# The requirements are complete locks, so pip need not look for dependencies.
INSTALL := $(BIN)/pip install -q --disable-pip-version-check --no-deps

# Options of tallymark. They are passed as environment variables, so that blanks and quotes in them survive.
$(foreach name,DATA OUT BATCH VARS SHUFFLE KILLS SEED WITHOUT_MISSING,$(eval export MAKE_$(name) = $$($(name))))

# Set for another Python, these would prevent this one from starting. The local stack itself drops the variables of
# other tools.
unexport PYTHONHOME PYTHONOPTIMIZE PYTHONSAFEPATH PYTHONWARNINGS

COMMANDS := demo up down doctor replay verify rebuild certify
.PHONY: help $(COMMANDS) spark-demo secrets backup restore test test-system test-all test-spark test-compose test-faults fuzz outages bench bench-quick bench-spark screenshots audit-dependencies docs site lint clean

help:  ## list these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /	/' | expand -t 20

demo:  ## run the pipeline on generated data, or DATA=<folder with transactions.csv(.gz)>, and print a summary
up:  ## start the same stack in the background, and print the address of Airflow's UI
down:  ## stop what make up started
doctor:  ## check settings, connection, bucket and the warehouse's folder before the first run
replay:  ## run the pipeline over files: DATA=<folder like the bucket> OUT=<folder> [BATCH=<chunks>] [VARS='<YAML>']
verify:  ## prove that no detection file is missing or changed, in the bucket or DATA=<folder> [OUT=<folder>]
rebuild:  ## rebuild a lost warehouse from the bucket, or from DATA=<folder> [OUT=<folder of make replay>]
certify:  ## check that batches and kills do not change the result: [DATA=<folder>] [SHUFFLE=<seed>] [VARS='<YAML>']
$(COMMANDS): .venv/installed
	@$(BIN)/tallymark $@

spark-demo: .venv/installed-spark .venv/spark/installed  ## make demo with raw rows and state on Spark and Delta; needs Java 17
	@TALLYMARK_ENGINE=spark $(BIN)/tallymark demo

secrets:  ## write .env for docker-compose.yaml, with fresh secrets; see docs/operations.md
	@$(PYTHON) plugins/tallymark/cli/env_file.py

backup:  ## TO=<new folder>: back up docker compose's warehouse and metadata; stops the scheduler meanwhile
restore:  ## FROM=<folder of make backup>: replace docker compose's warehouse and metadata
backup restore:
	@deploy/backup.sh $@

test: .venv/installed-dev lint  ## lint and all tests that pass on a busy machine; run before every push
	@$(PYTEST) $(IN_PARALLEL) -m 'not system and not docker and not spark'
test-system: .venv/installed-dev  ## timing, browser, crash and outage tests; run on an idle machine before a release
	@$(PYTEST) $(IN_PARALLEL) -m 'system and not spark'
test-all: .venv/installed-dev lint  ## make test and make test-system
	@$(PYTEST) $(IN_PARALLEL) -m 'not docker and not spark'
test-spark: .venv/installed-dev .venv/spark/installed  ## tests of the pipeline on Apache Spark and Delta; two hours on two cores; needs Java 17
	@$(PYTEST) -m spark
test-compose: .venv/installed-dev  ## tests of docker-compose.yaml: kills, hangs, backup and restore; an hour; needs a Docker engine
	@$(PYTEST) -m docker
test-faults: .venv/installed-dev  ## kill processes and tasks at least 200 times; write docs/reliability/
	@TALLYMARK_FIGURES=1 TALLYMARK_KILLS=$(or $(KILLS),160) TALLYMARK_AIRFLOW_KILLS=$(or $(AIRFLOW_KILLS),20) \
		$(PYTEST) tests/system/test_crashes.py tests/system/test_airflow_accidents.py
fuzz: .venv/installed-dev  ## load MUTANTS=<10000> damaged chunks and write docs/reliability/input.md
	@TALLYMARK_FIGURES=1 TALLYMARK_MUTANTS=$(or $(MUTANTS),10000) $(PYTEST) tests/intake tests/pipeline/test_load.py
outages: .venv/installed-dev  ## simulate outages of S3 and write docs/reliability/outages.md
	@TALLYMARK_FIGURES=1 $(PYTEST) tests/system/test_outages.py
screenshots: .venv/installed-dev  ## run the browser tests and write their screenshots to docs/images
	@TALLYMARK_SCREENSHOTS=1 $(PYTEST) tests/system/test_browser.py

bench:  ## run the benchmarks and write docs/performance.md: [DATA=<folder>] [ONLY=<benchmark,...>]; 40 minutes
bench-quick:  ## run smaller variants of the benchmarks; a few minutes
bench bench-quick: .venv/installed-bench
	@PYTHONPATH=plugins:. $(BIN)/python -m benchmarks $(if $(findstring quick,$@),--quick) \
		$(if $(DATA),--data="$$DATA") $(if $(ONLY),--only="$$ONLY")

bench-spark: .venv/installed-bench .venv/spark/installed  ## compare DuckDB with Spark and write docs/scaling.md; an hour; needs Java 17
	@PYTHONPATH=plugins:.:tests $(BIN)/python -m benchmarks.scaling $(if $(SIZES),--sizes="$$SIZES")

clean:  ## delete the virtual environment and local data
	rm -rf .venv .local

audit-dependencies:  ## check the locked versions for known vulnerabilities; needs internet access
	@$(PYTHON) -m venv .local/pip-audit && .local/pip-audit/bin/pip install -q --disable-pip-version-check pip-audit
	@.local/pip-audit/bin/pip-audit --strict --no-deps --disable-pip -r requirements.txt -r requirements-spark.txt -r requirements-celery.txt -r requirements-dev.txt -r requirements-bench.txt

docs: .venv/installed  ## write docs/settings.md and docs/models.html (dbt documentation, for the Detections page)
	@cd dbt_project && TALLYMARK_WAREHOUSE=../.local/docs/warehouse.duckdb ../$(BIN)/dbt --quiet docs generate --static \
		--empty-catalog --profiles-dir . --target-path ../.local/docs --log-path ../.local/docs
	@cp .local/docs/static_index.html docs/models.html
	@$(BIN)/tallymark settings >docs/settings.md
	@echo "docs/models.html docs/settings.md"

site: docs .venv/installed-dev  ## write the documentation site to .local/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "Wrote .local/site. To read it: $(PYTHON) -m http.server --bind 127.0.0.1 --directory .local/site 8000"

lint: .venv/installed-dev  ## run all linters and type checks
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PYTHONPATH=plugins $(BIN)/lint-imports --no-cache --no-logo
	@cd dbt_project && ../$(BIN)/sqlfluff lint -q models patterns tests
	@$(BIN)/oxlint --deny-warnings plugins/tallymark/page
	@$(BIN)/oxfmt --check plugins/tallymark/page

.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info[:2] <= (3, 13) or sys.exit("ERROR: Tallymark needs Python " \
		"3.11, 3.12 or 3.13, but %s is %d.%d. Choose another one, for example: make PYTHON=python3.12" \
		% ((sys.executable,) + sys.version_info[:2]))'
	@echo "Installing into .venv. This takes a minute or two ..."
	@$(PYTHON) -m venv .venv
	@$(INSTALL) -r requirements.txt
	@$(INSTALL) --no-build-isolation -e .
	@touch $@

# A separate environment, because pyspark and pyspark-client (in .venv) install the same modules.
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
