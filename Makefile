# Podium. `make` alone tells what can be made; each target sets up what it needs.
SHELL         := /bin/bash
.SHELLFLAGS   := -euo pipefail -c
.DEFAULT_GOAL := help

# Empty: the quickest there is.
PYTHON ?=
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
STUBS  := clients/python/podium/v1/__init__.py
PROTOS := $(shell find protos/podium -name '*.proto' 2>/dev/null)

DIR    ?=
ONCE   ?=
AGENTS ?=
ARGS   ?=
ENGINE ?=
IMAGE  ?= podium:0.1.0
# Processes that share the tests, which wait most of the time; 0 runs one test after the other.
WORKERS ?= 2

# Each service and each test's process would compile every module of its own and of its libraries
# anew where the machine's settings keep Python from writing what it compiled.
unexport PYTHONDONTWRITEBYTECODE

##@ Every day
.PHONY: help
help: ## Show this help (the default)
	@awk -F':.*## ' '/^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: install ## Review a folder with the whole suite (DIR=folder ONCE=1 AGENTS=number)
	@exec $(BIN)/python -m examples.review \
	  $(if $(DIR),--dir "$(DIR)") $(if $(ONCE),--once) $(if $(AGENTS),--agents $(AGENTS))

.PHONY: test
test: install chromium ## Run the tests (ARGS="-k lease" goes to pytest)
	@$(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder $(ARGS)

.PHONY: lint
lint: install ## Check protos, style, types and who imports whom
	$(BIN)/buf lint protos
	$(BIN)/buf format protos --diff --exit-code
	@$(MAKE) --no-print-directory breaking
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: install ## Rewrite protos and Python in the house's format
	@$(BIN)/buf format protos --write
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

##@ Parts
.PHONY: install
install: $(READY) $(STUBS) ## Set up .venv with all dependencies and the stubs; a repeat is instant

.PHONY: protos
protos: $(READY) ## Generate the Python stubs from protos/
	@$(BIN)/python protos/generate.py

.PHONY: conformance
conformance: install ## Judge an agent in any language: AGENT="node agent.mjs" (docs/protocol.md)
	@PODIUM_CONFORMANCE_AGENT='$(AGENT)' $(BIN)/python -m pytest tests/contracts/test_agent_session.py tests/contracts/test_agent_timing.py tests/contracts/test_agent_versions.py $(ARGS)

.PHONY: breaking
breaking: install ## Check that protos/ only adds to what main holds
	@if [ -n "$$(git ls-tree main protos/podium 2>/dev/null)" ]; then \
	  repository=$$(git rev-parse --path-format=absolute --git-common-dir); \
	  echo "$(BIN)/buf breaking protos --against main"; \
	  $(BIN)/buf breaking protos --against "$$repository#format=git,branch=main,subdir=protos"; \
	else echo "No branch main with protos here: nothing to compare protos/ with."; fi

.PHONY: bench
bench: install ## Measure it all beside a bare skeleton (ARGS="--full"; parts: dispatch overload flat)
	@GRPC_VERBOSITY=ERROR $(BIN)/python -m tests.bench $(ARGS)

.PHONY: bench-scheduler
bench-scheduler: install ## Print what the queue, the log and its recovery cost
	@$(BIN)/python -m tests.bench.scheduler $(ARGS)

.PHONY: bench-edge
bench-edge: install ## Print what the bridge and the dashboard cost
	@$(BIN)/python -m tests.bench.edge $(ARGS)

.PHONY: bench-agents
bench-agents: install ## Print what sessions cost a router, and how soon a fleet recovers from deaths
	@$(BIN)/python -m tests.bench.agents $(ARGS)

.PHONY: bench-agent
bench-agent: install ## Print what a task costs an agent's process, with the SDK and without
	@$(BIN)/python -m tests.bench.handlers $(ARGS)

.PHONY: torture
torture: install ## Kill the scheduler under load, again and again (ARGS="--cycles 200 --postgres --partitions 4", --survivor or --sync-faults)
	@$(BIN)/python -m tests.system.torture $(ARGS)

.PHONY: web
web: ## Build the dashboard's assets (needs Node)
	cd clients/web && npm ci && npx vite build

.PHONY: image
image: ## Build the container image (IMAGE=name ENGINE="podman build")
	@engine="$(ENGINE)"; \
	for tool in docker podman buildah; do \
	  [ -n "$$engine" ] || ! $$tool info >/dev/null 2>&1 || engine="$$tool build"; \
	done; \
	[ -n "$$engine" ] || { echo "No working docker, podman or buildah here." >&2; exit 1; }; \
	set -x; $$engine -f deploy/Dockerfile -t $(IMAGE) .

.PHONY: manifests
manifests: install ## Render the Kubernetes overlays into artifacts/
	@mkdir -p artifacts
	@for overlay in development production replicated; do \
	  $(BIN)/kubectl kustomize deploy/kubernetes/overlays/$$overlay > artifacts/$$overlay.yaml; \
	  echo "artifacts/$$overlay.yaml"; \
	done

.PHONY: clean
clean: ## Remove .venv, stubs and caches; podium-data stays
	rm -rf $(VENV) clients/python/podium/v1 artifacts build dist .mypy_cache .ruff_cache \
	  .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian keeps venv in a package of its own. uv takes a fifth of pip's time; pip, which also reads
# the machine's own settings, serves where uv cannot.
$(READY): pyproject.toml constraints.txt
	@if [ ! -x $(BIN)/pip ]; then \
	  python='$(PYTHON)'; [ -n "$$python" ] || python=$$(python3 .ci/quickest_python.py); \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Podium needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }; \
	  "$$python" -c 'import ensurepip' 2>/dev/null || { [ "$$(id -u)" = 0 ] && \
	    apt-get update -qq && apt-get install -qq -y --no-install-recommends python3-venv; } || \
	    { echo "This Python cannot make environments: install python3-venv." >&2; exit 1; }; \
	  echo "Setting up $(VENV) with $$python (once) ..."; "$$python" -m venv $(VENV); \
	fi
	@$(BIN)/pip install --quiet --disable-pip-version-check uv 2>/dev/null && \
	  $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python \
	    -c constraints.txt -e '.[dev]' || \
	  $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# The installation has written the stubs already; this is for protos changed since.
$(STUBS): $(PROTOS) protos/generate.py | $(READY)
	@$(BIN)/python protos/generate.py

.PHONY: chromium
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	    echo "Installing Chromium for the browser tests (once) ..." && apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null; } || \
	  { echo "The browser tests need Chromium: install the package chromium." >&2; exit 1; }
