# Everything a person or CI does here. `make` lists the targets.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
# Test processes, each with an embedded stack of its own.
AT_ONCE ?= 3
# What a stamp depends on: the environment is made again when the lock or the project's own table changes.
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-chaos test-cdc-random test-merge-random test-upkeep-random test-large test-live bench-export bench-backfill bench-ingest bench-merge bench-fleet \
	soak figures lint format proto alerts histories lock up down clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: $(STAMP) ## set everything up and run the main job, ClickHouse to Iceberg, on this machine
	@$(BIN)/icefleet demo

# Tests start hundreds of commands and workers: without bytecode each would compile the project anew.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(STAMP) ## set everything up and pass the tests; most of them wait, so some files run beside each other (AT_ONCE=1: none)
	@$(BIN)/pytest -n $(AT_ONCE) --dist loadfile

test-chaos: $(STAMP) ## everything goes wrong for some minutes: make test-chaos SEED=7 repeats a run, SIZE=2 doubles it
	@CHAOS_SEED="$(SEED)" CHAOS_SIZE="$(SIZE)" $(BIN)/pytest -m chaos -s --tb=short tests/chaos

test-cdc-random: $(STAMP) ## people write at random while everything goes wrong: make test-cdc-random SEED=7 repeats it
	@CDC_SEED="$(SEED)" CDC_SIZE="$(SIZE)" $(BIN)/pytest -m cdcrandom -s --tb=short tests/cdcrandom

test-merge-random: $(STAMP) ## the same with mirrors, which must be PostgreSQL's tables: make test-merge-random SEED=7 repeats it
	@MERGE_SEED="$(SEED)" MERGE_SIZE="$(SIZE)" $(BIN)/pytest -m mergerandom -s --tb=short tests/mergerandom

test-upkeep-random: $(STAMP) ## exports, merges, upkeep and readers at once while workers die: make test-upkeep-random SEED=7 repeats it
	@UPKEEP_SEED="$(SEED)" UPKEEP_SIZE="$(SIZE)" $(BIN)/pytest -m upkeeprandom -s --tb=short tests/upkeep

test-large: $(STAMP) ## a transaction of 10 million changes, a thousand tables and a thousand mirrors, where `make test` has fewer
	@MERGE_TRANSACTION=10000000 INGEST_TABLES=1000 MERGE_MIRRORS=1000 $(BIN)/pytest -k "58_59 or case_61" \
		tests/mirrors/test_merge_volume.py tests/e2e/test_ingest.py tests/workflows/test_merge_mirror.py

test-live: $(STAMP) ## the ClickHouse endpoint's tests against a real server: make test-live CLICKHOUSE_URL=http://user:pass@host:8123
	@test -n "$(CLICKHOUSE_URL)" || { echo "say which server: make test-live CLICKHOUSE_URL=http://user:password@host:8123"; exit 2; }
	@CLICKHOUSE_URL="$(CLICKHOUSE_URL)" $(BIN)/pytest tests/deploy/test_clickhouse_endpoint*.py

lint: $(STAMP) ## ruff, mypy strict, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP) ## let ruff format and mend what it can
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

proto: $(STAMP) ## generate the Python beside the .proto files
	@cd proto && ../$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. icefleet/v1/*.proto

histories: $(STAMP) ## record the histories of every workflow that tests/replay replays, before a version is released
	@$(BIN)/python tests/replay/record.py

lock: $(STAMP) ## resolve the dependencies again into requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --no-header \
		--no-annotate --no-emit-index-url --no-emit-find-links --upgrade --quiet -o requirements.lock

bench-export: $(STAMP) ## measure an export beside the engine's own; SCALE=0.1 shrinks the run
	@PYTHONPATH=benchmarks $(BIN)/python benchmarks/export.py

bench-backfill: $(STAMP) ## measure a backfill of 10,000 partitions, and planning against 20,000 files; SCALE=0.1 shrinks the run
	@PYTHONPATH=benchmarks $(BIN)/python benchmarks/backfill.py

bench-ingest: $(STAMP) ## measure changes from PostgreSQL to committed changelogs, beside a plain loop; SCALE=0.1 shrinks the run
	@PYTHONPATH=benchmarks $(BIN)/python benchmarks/ingest.py

bench-merge: $(STAMP) ## measure merges into mirrors of 1 and 10 million rows, and reads of them; SCALE=0.1 shrinks, LARGE=1 adds 100 million
	@PYTHONPATH=benchmarks $(BIN)/python benchmarks/merge.py

bench-fleet: $(STAMP) ## measure 1 to 8 workers, drains, telemetry, start and memory of idle workers; SCALE=0.1 shrinks the run
	@PYTHONPATH=benchmarks $(BIN)/python benchmarks/fleet.py

soak: $(STAMP) ## a fleet that exports, captures and merges for an hour, whose memory, open files and histories stay flat, with a plot: make soak MINUTES=10
	@MINUTES="$(or $(MINUTES),60)" PYTHONPATH=benchmarks $(BIN)/python benchmarks/soak.py

figures: $(STAMP) ## write what the benchmarks measured last into the README and docs/benchmarks.md
	@PYTHONPATH=benchmarks $(BIN)/python benchmarks/figures.py

alerts: ## write the rules into the Kubernetes manifests; RUNBOOKS=https://docs.example.org/ makes links of their runbooks
	@sed '/^spec:$$/q' deploy/k8s/base/prometheus-rule.yaml > .alerts.new
	@awk -v place="$(RUNBOOKS:%/=%)" '/^groups:/ { on = 1 } \
		place != "" && match($$0, /runbook_url: /) { end = RSTART + RLENGTH; $$0 = substr($$0, 1, end - 1) place "/" substr($$0, end) } \
		on { print (/./ ? "  " : "") $$0 }' deploy/grafana/rules/icefleet.yaml >> .alerts.new
	@mv .alerts.new deploy/k8s/base/prometheus-rule.yaml

up: $(STAMP) ## start the embedded stack and a worker
	@$(BIN)/icefleet local up --worker

down: $(STAMP) ## stop what `make up` or `make demo` started
	@$(BIN)/icefleet local down

clean: ## remove the environment and caches (the stack's data stays in .local/)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info
