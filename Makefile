.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
TALLYMARK := PYTHONPATH=plugins $(BIN)/python -m tallymark
PYTEST := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
BENCH := PYTHONPATH=plugins:. $(BIN)/python -m benchmarks

# Values reach the commands as "$$DATA", from the environment that make gives them, so that no apostrophe ends them.
export DATA OUT BATCH VARS SHUFFLE KILLS SEED ONLY TO FROM

# Those of another Python would keep this one from starting. The local stack drops all others that are not its own.
unexport PYTHONHOME PYTHONOPTIMIZE PYTHONSAFEPATH PYTHONWARNINGS

.PHONY: help demo up down doctor replay verify rebuild certify secrets backup restore test test-system test-all test-compose test-faults fuzz outages bench bench-quick screenshots audit-dependencies docs lint clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /	/' | expand -t 20

demo: .venv/installed  ## X and Y over generated data, or DATA=<folder with transactions.csv(.gz)>, with a summary
	@$(TALLYMARK) demo $(if $(DATA),--data="$$DATA")

up: .venv/installed  ## the same, but it stays; prints the address of the Airflow UI
	@$(TALLYMARK) up $(if $(DATA),--data="$$DATA")

down: .venv/installed  ## stops what make up started
	@$(TALLYMARK) down

doctor: .venv/installed  ## checks settings, bucket, connection and the warehouse's folder before the first run
	@$(TALLYMARK) doctor

replay: .venv/installed  ## DATA=<folder like the bucket> OUT=<folder> [BATCH=<chunks>] [VARS='<dbt vars, YAML>']
	@$(TALLYMARK) replay $(if $(DATA),"$$DATA",$(error DATA=<folder> is missing)) \
		$(if $(OUT),"$$OUT",$(error OUT=<folder> is missing)) $(if $(BATCH),--batch="$$BATCH") $(if $(VARS),--vars="$$VARS")

verify: .venv/installed  ## proves from the bucket, or DATA=<folder like the bucket>, that every detection file is there
	@$(TALLYMARK) verify $(if $(DATA),--data="$$DATA") $(if $(OUT),--out="$$OUT")

rebuild: .venv/installed  ## makes a lost warehouse again from the bucket, or DATA=<folder> [OUT=<folder of make replay>]
	@$(TALLYMARK) rebuild $(if $(DATA),--data="$$DATA") $(if $(OUT),--out="$$OUT") \
		$(if $(WITHOUT_MISSING),--without-missing)

certify: .venv/installed  ## one digest of what comes out, however chunks are batched: [DATA=<folder>] [SHUFFLE=<seed>] [VARS=...]
	@PYTHONWARNINGS=ignore:resource_tracker $(TALLYMARK) certify $(if $(DATA),"$$DATA") \
		$(if $(SHUFFLE),--shuffle="$$SHUFFLE") $(if $(KILLS),--kills="$$KILLS") \
		$(if $(SEED),--seed="$$SEED") $(if $(VARS),--vars="$$VARS")

secrets:  ## writes .env for docker-compose.yaml, with fresh secrets; docs/operations.md goes on from there
	@PYTHONPATH=plugins $(PYTHON) -m tallymark secrets

backup:  ## TO=<new folder>: of docker compose, the warehouse and Airflow's metadata; no chunk is taken meanwhile
	@test -n "$$TO" || { echo "ERROR: TO=<new folder> is missing" >&2; exit 1; }
	@umask 077 && mkdir -p "$$(dirname "$$TO")" && mkdir "$$TO"
	@trap '$(COMPOSE) start scheduler' EXIT; trap 'exit 130' INT; $(COMPOSE) stop scheduler \
		&& $(COMPOSE) exec -T postgres pg_dump -U tallymark -Fc tallymark >"$$TO/metadata.dump" \
		&& $(COMPOSE) run --rm --no-deps -T set-up tar -C /data -c -f - . >"$$TO/warehouse.tar" \
		&& ls -l "$$TO"

restore:  ## FROM=<folder of make backup>: puts both in place of what is there
	@test -f "$$FROM/metadata.dump" && test -f "$$FROM/warehouse.tar" \
		|| { echo "ERROR: FROM=<folder of make backup> is missing" >&2; exit 1; }
	@$(COMPOSE) stop api-server scheduler dag-processor triggerer clean
	@$(COMPOSE) up -d postgres
	@until $(COMPOSE) exec -T postgres pg_isready -q -h 127.0.0.1 -U tallymark; do sleep 1; done
	@$(COMPOSE) exec -T postgres dropdb --if-exists --force -U tallymark tallymark
	@$(COMPOSE) exec -T postgres createdb -U tallymark tallymark
	@$(COMPOSE) exec -T postgres pg_restore -U tallymark -d tallymark --exit-on-error <"$$FROM/metadata.dump"
	@$(COMPOSE) run --rm --no-deps -T set-up sh -c 'find /data -mindepth 1 -delete && tar -C /data -x -f -' \
		<"$$FROM/warehouse.tar"
	@$(COMPOSE) up -d

test: .venv/installed-dev lint  ## everything to know before pushing, on a busy machine too: no clock, no browser decides it
	@$(PYTEST) -n 2 --dist loadfile --durations 10 -m 'not system and not docker'

test-system: .venv/installed-dev  ## what depends on time, a browser, many kills or outages; before a release
	@$(PYTEST) -n 2 --dist loadfile --durations 10 -m system

test-all: .venv/installed-dev lint  ## both
	@$(PYTEST) -n 2 --dist loadfile -m 'not docker'

test-compose: .venv/installed-dev  ## docker-compose.yaml under kills, hangs, backup and restore; an hour; needs a Docker engine
	@$(PYTEST) --durations 10 -m docker

test-faults: .venv/installed-dev  ## kills whatever does the work, 200 times and more; figures in docs/reliability/
	@TALLYMARK_FIGURES=1 TALLYMARK_KILLS=$(or $(KILLS),160) TALLYMARK_AIRFLOW_KILLS=$(or $(AIRFLOW_KILLS),20) \
		$(PYTEST) tests/system/test_crashes.py tests/system/test_airflow_accidents.py

fuzz: .venv/installed-dev  ## loads MUTANTS=<10000> damaged chunks and writes docs/reliability/input.md
	@TALLYMARK_FIGURES=1 TALLYMARK_MUTANTS=$(or $(MUTANTS),10000) $(PYTEST) tests/intake tests/pipeline/test_load.py

outages: .venv/installed-dev  ## lets S3 fail in every way and writes docs/reliability/outages.md
	@TALLYMARK_FIGURES=1 $(PYTEST) tests/system/test_outages.py

bench: .venv/installed-bench  ## measures it all [DATA=<folder>] [ONLY=<measurement,...>], 40 minutes; writes docs/performance.md
	@$(BENCH) $(if $(DATA),--data="$$DATA") $(if $(ONLY),--only="$$ONLY")

bench-quick: .venv/installed-bench  ## smaller variants of the same, a few minutes
	@$(BENCH) --quick $(if $(DATA),--data="$$DATA") $(if $(ONLY),--only="$$ONLY")

screenshots: .venv/installed-dev  ## lets the browser tests write the pictures in docs/images
	@TALLYMARK_SCREENSHOTS=1 $(PYTEST) tests/system/test_browser.py

audit-dependencies:  ## looks the locked versions up in the database of known holes, which takes the internet
	@$(PYTHON) -m venv .local/pip-audit && .local/pip-audit/bin/pip install -q --disable-pip-version-check pip-audit
	@.local/pip-audit/bin/pip-audit --strict --no-deps --disable-pip -r requirements.txt -r requirements-dev.txt -r requirements-bench.txt

docs: .venv/installed  ## writes docs/settings.md, and docs/models.html about the dbt project, which the page Detections links to
	@cd dbt_project && TALLYMARK_WAREHOUSE=../.local/docs/warehouse.duckdb ../$(BIN)/dbt --quiet docs generate --static \
		--empty-catalog --profiles-dir . --target-path ../.local/docs --log-path ../.local/docs
	@cp .local/docs/static_index.html docs/models.html
	@echo "docs/models.html"
	@$(TALLYMARK) settings

lint: .venv/installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@PYTHONPATH=plugins $(BIN)/lint-imports --no-cache --no-logo
	@cd dbt_project && ../$(BIN)/sqlfluff lint -q models patterns tests
	@$(BIN)/oxlint --deny-warnings plugins/tallymark/page
	@$(BIN)/oxfmt --check plugins/tallymark/page

clean:  ## removes the virtual environment and local data
	rm -rf .venv .local

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info[:2] <= (3, 13) or sys.exit("ERROR: Tallymark needs Python " \
		"3.11, 3.12 or 3.13, and %s is %d.%d. Choose another one, as in: make PYTHON=python3.12" \
		% ((sys.executable,) + sys.version_info[:2]))'
	@echo "Installing into .venv, which takes a minute or two ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install -q --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	@echo "Installing what the tests need ..."
	@$(BIN)/pip install -q --disable-pip-version-check -r requirements-dev.txt
	@touch $@

.venv/installed-bench: .venv/installed-dev requirements-bench.txt
	@echo "Installing what the benchmark needs ..."
	@$(BIN)/pip install -q --disable-pip-version-check -r requirements-bench.txt
	@touch $@
