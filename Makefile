# Needs Python 3.11, 3.12 or 3.13, git and make. Everything else is installed into .venv, at the versions of the lock.
#   make PYTHON=/path/to/python ...   uses that Python for .venv
#   make demo DATA=2026-11           brings that delivery of the sample data first
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

IN_RANGE := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
	"$$python" -c '$(IN_RANGE)' 2>/dev/null && echo "$$python" && break; done)
BIN := .venv/bin
UV := $(BIN)/uv pip
LOCK := $(UV) compile --quiet --universal --python-version 3.11 --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)
PREFECT := include/examples/prefect
# Prefect 3 works with none of the versions of these that the lock has; what a step computes depends on none of them.
NOT_WITH_PREFECT := packaging|python-slugify|sqlalchemy|websockets
DELIVERY := $(BIN)/python -m ml_pipelines_airflow.release
RELEASE ?= dist/release.json

.PHONY: help demo ui env up down logs ps stack-native test system-test bench check prose docs dags smoke lock wheel registry-login \
	publish deploy clean distclean

help: ## list what there is
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1 /p' Makefile | while read -r name text; do printf 'make %-12s %s\n' "$$name" "$$text"; done

.venv/.stamp: requirements.txt requirements-dev.txt pyproject.toml
	@test -x $(BIN)/python || test -n '$(PYTHON)' || { \
		echo 'No Python 3.11, 3.12 or 3.13 with venv was found. Install one (on Debian also python3-venv),'; \
		echo 'or name it: make PYTHON=/path/to/python3.12'; exit 1; } >&2
	@test -x $(BIN)/python || '$(PYTHON)' -c '$(IN_RANGE)' || { \
		echo '$(PYTHON) is not a Python 3.11, 3.12 or 3.13 with venv'; exit 1; } >&2
	@test -x $(BIN)/python || { echo '>> .venv, with $(PYTHON)'; '$(PYTHON)' -m venv .venv; }
	@echo '>> locked packages (some minutes the first time)'
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^uv==' requirements-dev.txt)
	@$(UV) install --quiet --compile-bytecode --python $(BIN)/python --requirements requirements.txt --requirements requirements-dev.txt
	@$(UV) install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: .venv/.stamp ## run the pipeline from data to decision, without a server (DATA=2026-11: the delivery; APPROVE=1: yes to what is held)
	@$(BIN)/python -m ml_pipelines_airflow.local.demo $(if $(DATA),--data '$(DATA)') $(if $(APPROVE),--approve)

ui: .venv/.stamp ## the same with Airflow's and MLflow's pages
	@$(BIN)/python -m ml_pipelines_airflow.local.demo --ui $(if $(DATA),--data '$(DATA)')

# The stack in containers needs Docker and a Python alone.
STACK := PYTHONPATH=include '$(or $(PYTHON),$(BIN)/python)' include/docker/stack.py
COMPOSE := COMPOSE_FILE="$${COMPOSE_FILE:-docker-compose.airflow.yml}" docker compose

env: ## write the secrets of the stack into .env, where they are not there yet
	@$(STACK) env

up: ## Airflow on Celery, MLflow and their databases in Docker; prints address and password (WORKERS=2: workers)
	@$(if $(WORKERS),WORKERS='$(WORKERS)') $(STACK) up

down: ## stop and remove the stack's containers; its data stays
	@$(COMPOSE) down

logs: ## what the stack says
	@$(COMPOSE) logs --follow --tail 100

ps: ## what of the stack runs, and how it is
	@$(COMPOSE) ps --all

stack-native: .venv/.stamp ## Airflow on Celery, Redis and PostgreSQL without Docker (WORKERS=2 PORT=8080)
	@$(BIN)/python -m ml_pipelines_airflow.local.stack $(if $(WORKERS),--workers '$(WORKERS)') $(if $(PORT),--port '$(PORT)')

test: .venv/.stamp ## the tests that need no Docker
	@$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadgroup -m 'not browser and not docker and not root'

system-test: .venv/.stamp ## the tests that need root, on Linux, a Docker engine or Chromium
	@$(BIN)/python -m pytest tests -m 'browser or docker or root'

bench: .venv/.stamp ## race with the peers, into docs/benchmarks.md (SIZES=5k PEERS=plain,ours-cli ROUNDS=3)
	@$(BIN)/python -m tests.benchmarks.peers.race $(if $(SIZES),--sizes '$(SIZES)') $(if $(PEERS),--peers '$(PEERS)') \
		$(if $(ROUNDS),--rounds '$(ROUNDS)')

check: .venv/.stamp ## style, types, layers and workflows
	@failed=0; \
	echo '>> ruff'; $(BIN)/ruff check --quiet || failed=1; $(BIN)/ruff format --check --quiet || failed=1; \
	echo '>> mypy'; $(BIN)/mypy --no-error-summary || failed=1; \
	MYPYPATH=include $(BIN)/mypy --no-error-summary include/docker/*.py || failed=1; \
	echo '>> lint-imports'; $(BIN)/lint-imports --no-logo || failed=1; \
	echo '>> zizmor'; $(BIN)/zizmor --offline --quiet .github || failed=1; \
	if command -v actionlint >/dev/null; then echo '>> actionlint'; actionlint || failed=1; fi; \
	exit $$failed

prose: .venv/.stamp ## the language of docs, docstrings, comments and messages (FILES=: only these)
	@$(BIN)/python -m tests.prose $(FILES)

docs: .venv/.stamp ## build the docs site into build/site (SERVE=1: serve it on 127.0.0.1:8000 while you write)
	@NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs $(if $(SERVE),serve,build --quiet)

dags: .venv/.stamp ## import every DAG as Airflow does; describe what a release of them offers in dist/release.json
	@$(DELIVERY) dags --release $(RELEASE)

# What the stack's own file of variables says, as those that talk to Airflow take it.
smoke: dags ## see that the stack which `make up` has started serves every DAG (ENV_FILE=.env)
	@set -a; . '$(abspath $(or $(ENV_FILE),.env))'; AIRFLOW_API_URL="http://127.0.0.1:$${AIRFLOW_PORT:-8080}" \
	AIRFLOW_API_USER="$${AIRFLOW_ADMIN_USER:-admin}" AIRFLOW_API_PASSWORD="$$AIRFLOW_ADMIN_PASSWORD" \
	$(DELIVERY) verify --release $(RELEASE) --bundle dags

lock: .venv/.stamp ## write requirements*.txt from pyproject.toml (UPGRADE=1: newest versions)
	@echo '>> requirements.txt'; $(LOCK) --all-extras --output-file requirements.txt pyproject.toml >/dev/null
	@echo '>> requirements-dev.txt'; $(LOCK) --group dev --group docs --constraints requirements.txt --output-file requirements-dev.txt >/dev/null
	@echo '>> $(PREFECT)/requirements.txt'; grep -vE '^($(NOT_WITH_PREFECT))==' requirements.txt | $(LOCK) --no-annotate \
		--constraints /dev/stdin --extra ml pyproject.toml $(PREFECT)/requirements.in --output-file $(PREFECT)/requirements.txt >/dev/null

wheel: .venv/.stamp ## build into dist/
	@$(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir dist
	@ls dist/*.whl

registry-login: # lets docker into the registry $(REGISTRY), as REGISTRY_USER with REGISTRY_TOKEN of the environment
	@printf '%s' "$$REGISTRY_TOKEN" | docker login "$(firstword $(subst /, ,$(REGISTRY)))" --username "$$REGISTRY_USER" --password-stdin >&2

publish: ## build the images of a release, push them to REGISTRY/NAME and print their digests (REGISTRY=, TAG=)
	@include/docker/publish '$(REGISTRY)' '$(TAG)'

deploy: .venv/.stamp ## deploy IMAGE and TRAINING_IMAGE, verify, roll back if that fails (ENV_FILE=.env, BUNDLE=)
	@$(DELIVERY) deploy --release '$(RELEASE)' --env-file '$(or $(ENV_FILE),.env)' --bundle '$(or $(BUNDLE),ml-pipelines)' \
		'ML_PIPELINES_IMAGE=$(IMAGE)' 'ML_PIPELINES_TRAINING_IMAGE=$(TRAINING_IMAGE)'

clean: ## remove what was built, cached or run; .venv stays
	@rm -rf .workspace build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find include plugins tests dags -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## .venv too
	@rm -rf .venv
