# Everything here sets itself up: `.venv` from any Python >= 3.11, once; a second call downloads nothing.

PYTHON := .venv/bin/python
RUN := requirements.txt infra/requirements.txt
SETUP := @sh infra/bootstrap.sh
# Tests that generate their examples; TEST_SCALE multiplies how many.
GENERATED := tests/api/test_openapi.py tests/sessions/test_machine.py tests/sessions/test_concurrency.py \
	tests/sql/test_properties.py tests/sql/test_file_races.py tests/sql/test_events.py \
	tests/sql/own_tables tests/sql/test_room_races.py tests/user_sessions/test_equal.py tests/user_sessions/test_typed.py tests/insight/test_rollups.py
# Long load, at full size after the measurements of `make bench`.
LOADS := tests/games/test_load.py tests/sql/test_room_hour.py

.PHONY: help demo dev serve test release-check bench bench-quick lint lock migrate doctor package-aws postgres15 redis chromium clean release-packages
.NOTPARALLEL:

help: ## show this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s  %s\n", $$1, $$2 }' Makefile

demo: ## show a cleanup on 2,000 sessions of a local Supabase: dry run, run, what stayed
	$(SETUP) $(RUN)
	@$(PYTHON) -m infra demo $(ARGS)

dev: ## run a local Supabase and the API until Ctrl-C (PORT=3000, LULL_HOME=.local)
	$(SETUP) $(RUN)
	@$(PYTHON) -m infra dev $(ARGS)

serve: ## serve the API with the cleanup's scheduler inside, on any host (HOST=127.0.0.1, PORT=3000)
	$(SETUP) $(RUN)
	@exec $(PYTHON) -m infra serve $(ARGS)

test: lint postgres15 redis chromium ## run every check and test, on Postgres 18, and where it matters most on 15
	@$(PYTHON) -m pytest -n 2 --dist worksteal $(ARGS)

release-check: postgres15 redis ## prove with the platforms' own tools that this deploys and runs (about half an hour)
	$(SETUP) $(RUN) tests/requirements.txt tests/release/requirements.txt
	@sh tests/release/packages.sh
	@TEST_SCALE=10 $(PYTHON) -m pytest -p tests.release.left_unrun tests/release $(ARGS)
	@$(if $(ARGS),,TEST_SCALE=10 $(PYTHON) -m pytest -n 2 --dist worksteal $(GENERATED))
	@$(if $(ARGS),,TEST_POSTGRES_15=rest $(PYTHON) -m pytest -n 2 --dist worksteal $(addprefix --ignore=,$(GENERATED)) tests)

bench: ## measure Lull beside what people use today; writes docs/performance.md (40 minutes, 20 GB)
	$(SETUP) $(RUN) tests/bench/requirements.txt
	@$(PYTHON) -m tests.bench $(ARGS)
	$(if $(ARGS),,$(SETUP) $(RUN) tests/requirements.txt)
	@$(if $(ARGS),,TEST_SCALE=10 $(PYTHON) -m pytest $(LOADS))

bench-quick: ## the same with a tenth of the rows, once, and writes nothing (3 minutes)
	$(SETUP) $(RUN) tests/bench/requirements.txt
	@$(PYTHON) -m tests.bench --quick $(ARGS)

lint: ## run ruff, mypy and import-linter
	$(SETUP) $(RUN) tests/requirements.txt
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy --strict --explicit-package-bases api infra tests
	@.venv/bin/lint-imports

lock: ## write requirements.txt and infra/requirements.txt from infra/*.in, with hashes (ARGS=--upgrade)
	$(SETUP) tests/release/requirements.txt
	@sh infra/lock.sh $(ARGS)

migrate: ## bring the database at DATABASE_URL up to date (ARGS=--print writes SQL to paste)
	$(SETUP) $(RUN)
	@$(PYTHON) -m infra migrate $(ARGS)

doctor: ## check a deployment and say how to fix it (ARGS='--url https://…' checks one by its address)
	$(SETUP) $(RUN)
	@$(PYTHON) -m infra doctor $(ARGS)

package-aws: ## build the bundle for AWS Lambda into .local/aws (ARGS=--architecture=x86_64)
	$(SETUP) $(RUN)
	@$(PYTHON) -m infra package-aws $(ARGS)

postgres15:
	@sh tests/postgres15.sh

chromium:
	@sh tests/chromium.sh

redis:
	@sh tests/redis.sh

# The one part of release-check that needs root.
release-packages:
	@sh tests/release/packages.sh

clean: ## remove .venv, the data in .local, and caches
	@rm -rf .venv .local .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
