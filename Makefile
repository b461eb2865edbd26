# Everything runs from here; CI calls the same targets. `make` alone lists them.
#
# Needs Python >= 3.11. Packages come pinned with hashes into .venv; nothing is installed outside the project,
# except by `make services`, which says what it does.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-docker test-matrix test-pythons test-fast check lint format services bench skill release \
	evals picture lock clean distclean

ARGS ?=
VENV := .venv
PY := $(VENV)/bin/python
BENCH_KINDS := bench bench-saq bench-arq

# The first interpreter on the PATH that is new enough; `make PYTHON=/path/to/python3.13 …` chooses another.
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
endif

# uv from the PATH, or the one that the project installs for itself.
UV = $(shell command -v uv 2>/dev/null || echo $(VENV)/bin/uv)

say = printf '\n== %s\n' "$(1)"

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

demo: $(VENV)/synced ## workers in a fresh shop, one killed in the middle, and the account of it (no root, no services)
	@$(PY) -m demo.run $(ARGS)

test: services lint ## everything, against real PostgreSQL, Redis and RabbitMQ (ARGS="-k relay" narrows)
	@$(call say,tests against real servers)
	@$(PY) -m pytest --numprocesses 3 --dist worksteal $(ARGS)
	@$(call say,all good)

test-docker: ## make test in a container, for machines where nothing may be installed
	docker run --rm --init -t -v "$(CURDIR)":/project -w /project python:3.11-bookworm \
		make VENV=/tmp/venv test ARGS="-m 'not registry'" # that image has no npx

test-matrix: services $(VENV)/synced ## the brokers' tests on six generations of servers (ARGS=--quick: the most telling)
	@PYTHONPATH=tests $(PY) -m support.matrix $(ARGS)

test-pythons: $(VENV)/uv-ready ## the fast tests on every Python >= 3.11 here, with the lowest and the newest packages
	@$(PY) -m tools.pythons $(ARGS)

test-fast: $(VENV)/synced ## the tests that need no server, in two processes, 100 s of CPU
	@$(PY) -m pytest --numprocesses 2 --dist worksteal -m fast $(ARGS)

check: lint ## linter, formatter, type checker, and the tests of the documents
	@$(call say,documents)
	@$(PY) -m pytest -q -m fast tests/docs

lint: $(VENV)/synced # what make check and make test begin with
	@$(call say,ruff check)
	@$(VENV)/bin/ruff check .
	@$(call say,ruff format --check)
	@$(VENV)/bin/ruff format --check .
	@$(call say,mypy)
	@$(VENV)/bin/mypy .

format: $(VENV)/synced ## mend what the linter and the formatter can mend
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

services: ## install what is missing of PostgreSQL, Redis, RabbitMQ (the tests start their own), Chromium, Node.js
	@bash tools/services.sh "$(PYTHON)"

bench: $(BENCH_KINDS:%=$(VENV)-%/synced) ## throughput, memory and growth beside other engines
	@$(VENV)-bench/bin/python -m benchmarks.run $(ARGS)

evals: $(VENV)/synced ## tickets for an agent, graded: ARGS="--agent 'COMMAND' --output FOLDER"
	@PYTHONPATH=tests:examples $(PY) -m evals.run $(ARGS)

picture: $(VENV)/synced ## a run of the demo as demo/picture.svg
	@$(PY) -m tools.picture demo/picture.svg

skill: ## the skill as one file, dist/python-async-workers.skill
	@"$(PYTHON)" -m tools.archive dist

release: ## the version of SKILL.md where else it is read, its notes and the archive, into dist/
	@"$(PYTHON)" -m tools.release dist

lock: $(VENV)/uv-ready ## pin the newest versions into requirements/
	@for group in uv templates test dev $(BENCH_KINDS); do \
		echo "  requirements/$$group.txt"; \
		$(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
			--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
			--group $$group --output-file requirements/$$group.txt; \
	done
	@if grep -n '://' requirements/*.txt; then echo 'a requirement file names a host'; exit 1; fi

clean: ## remove what checks and tests leave behind
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean ## also remove the environments and the unpacked servers
	@rm -rf .venv .venv-* .services dist

# --- environments ---------------------------------------------------------------------------------------

define make-venv
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or newer is needed; none was found on the PATH.' >&2; exit 1; }
	@test -x $(1)/bin/python || { $(call say,new environment $(1) with $(PYTHON)); \
		"$(PYTHON)" -m venv $(1) || { rm -rf $(1); \
		echo 'python -m venv failed; on Debian and Ubuntu install the package python3-venv.' >&2; exit 1; }; }
endef

$(VENV)/uv-ready: requirements/uv.txt
	$(call make-venv,$(VENV))
	@command -v uv >/dev/null 2>&1 || { $(call say,installing uv into $(VENV)); \
		$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt; }
	@touch $@

# uv.txt is part of each set, because a sync removes what is not listed.
$(VENV)/synced: requirements/dev.txt requirements/uv.txt $(VENV)/uv-ready
	@$(call say,packages of requirements/dev.txt)
	@$(UV) pip sync --require-hashes --python $(PY) requirements/dev.txt requirements/uv.txt
	@touch $@

$(VENV)-%/synced: requirements/%.txt $(VENV)/uv-ready
	$(call make-venv,$(VENV)-$*)
	@$(call say,packages of requirements/$*.txt)
	@$(UV) pip sync --require-hashes --python $(VENV)-$*/bin/python requirements/$*.txt
	@touch $@
