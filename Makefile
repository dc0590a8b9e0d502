# Names of commands only; each one installs what it needs first and is quick the second time.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
ROWS   ?=

.PHONY: demo test check bench up down format install clean

install: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[local,dashboard,dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/crossfade demo $(if $(ROWS),--rows $(ROWS))

test: $(STAMP)
	$(BIN)/python -m pytest

up: $(STAMP)
	$(BIN)/crossfade up

down: $(STAMP)
	$(BIN)/crossfade down
