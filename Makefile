# Two commands matter: make demo and make test. make help lists the rest.
PYTHON ?= python3
PORT ?= 8000
RUN_DIR ?=
VENV := .venv
PY := $(VENV)/bin/python
export UV_PYTHON_DOWNLOADS := never
export UV_SYSTEM_CERTS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The frontend is prepared beside the venv.
MAKEFLAGS += -j2
SOURCES := $(shell find hsvm_engine webapp/solver -name '*.pyx' -o -name '*.pxd' -o -name '*.h' 2>/dev/null)
FRONTEND := $(shell find frontend/src -type f 2>/dev/null) $(wildcard frontend/*.json frontend/*.ts)

RUN := $(if $(RUN_DIR),$(abspath $(RUN_DIR)),$(CURDIR)/.run)
.PHONY: help demo test test-frontend test-long test-production bench-scaling setup preflight lock bench bench-live bench-policy bench-pages bench-wall bench-class chaos-wall chaos load soak goals oracles stories fuzz api-fuzz test-asan coverage mutants clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14
	@echo "Options: PORT=8123 RUN_DIR=some/dir DEMO_PASSWORD=... (demo), E2E=0 (test without browser), PYTHON=python3.12"

demo: $(RUN)/demo.pid ## start the whole product on http://127.0.0.1:8000 (Ctrl-C ends it)

# A SIGINT that is sent to make alone does not reach its child, but make then removes the file it was making:
# the supervisor writes its process id there and ends in good order when the file goes.
$(RUN)/demo.pid: setup
	@exec env HSVM_RUN_DIR="$(RUN)" $(PY) manage.py demo --port $(PORT) --pid-file "$@"

# In the order of collection: the browser's tests come first, and what is left at the end is short on both sides.
test: setup $(VENV)/.stamp-dev $(VENV)/.stamp-browser test-frontend ## every check, and all tests but the longest
	@$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long$(if $(filter 0,$(E2E)), and not e2e)"
	@$(if $(filter 0,$(E2E)),echo "E2E=0: the browser tests were left out",true)

# While the rest is prepared: the extensions are compiled on one core.
test-frontend: frontend/.stamp-build
	@cd frontend && npm run --silent check && npm test --silent

test-production: setup $(VENV)/.stamp-dev ## the tests without browsers on real PostgreSQL and Redis servers, started for it; one JSON line
	@$(PY) -m tests.production $(ARGS)

# The longest walks, stories and kills: a third of the time of all, in a dozen tests.
test-long: setup $(VENV)/.stamp-dev $(VENV)/.stamp-browser ## the tests that make test leaves out because they take long
	@$(PY) -m pytest -n 2 --dist load -m long

bench: setup $(VENV)/.stamp-dev $(VENV)/.stamp-browser ## measure speed here: one JSON object a line
	@$(PY) -m benchmarks

bench-live: setup $(VENV)/.stamp-dev $(VENV)/.stamp-browser ## the live views' budgets in a real browser: one JSON object
	@$(PY) -m benchmarks.live_speed

bench-policy: setup $(VENV)/.stamp-dev $(VENV)-negmas/.stamp ## the solver, the fleet and their peers: one JSON object
	@NEGMAS_PYTHON=$(VENV)-negmas/bin/python $(PY) -m benchmarks.policy_speed

bench-pages: setup $(VENV)/.stamp-dev $(VENV)/.stamp-browser ## every page with 5,000 VMs and 100,000 audit records: one JSON object
	@$(PY) -m benchmarks.pages_speed

bench-class: setup $(VENV)/.stamp-dev ## sixty students in one class, one web process and one worker: one JSON object
	@$(PY) -m benchmarks.class_speed

bench-wall: setup $(VENV)/.stamp-dev $(VENV)/.stamp-browser ## the operator's wall with 5,000 hosts, and 50 planted violations: one JSON object
	@$(PY) -m benchmarks.wall_speed

bench-scaling: setup $(VENV)/.stamp-dev ## what one more worker, web process, host, viewer or VM gives and costs, on SQLite and on PostgreSQL: one JSON object
	@$(PY) -m benchmarks.scaling_speed

chaos-wall: setup $(VENV)/.stamp-dev $(VENV)/.stamp-browser ## kill worker, web process and broker under an open wall: screenshots in .run/chaos-wall
	@$(PY) -m tests.e2e.chaos_wall

chaos: setup $(VENV)/.stamp-dev ## reliability goals under kills, lost brokers, bad ways: one JSON line a goal
	@$(PY) -m tests.goals --kit chaos

load: setup $(VENV)/.stamp-dev ## reliability goals under viewers, floods, malformed input and probes: one JSON line a goal
	@$(PY) -m tests.goals --kit load

soak: setup $(VENV)/.stamp-dev ## four minutes at half load: memory, descriptors, threads, errors; one JSON line
	@$(PY) -m tests.goals --kit soak

goals: setup $(VENV)/.stamp-dev ## all reliability goals, or GOALS="K1 V2": one JSON line a goal, and .run/goals/report.jsonl
	@$(PY) -m tests.goals $(GOALS)

# A peer with many dependencies of its own: it lives apart, so that it cannot change ours.
$(VENV)-negmas/.stamp: requirements-negmas.lock | $(VENV)/.stamp-dev
	@echo "installing the peer of the policy bench" >&2
	@$(PYTHON) -m venv $(VENV)-negmas
	@$(VENV)-negmas/bin/python -m pip install -q --require-hashes -r requirements-negmas.lock
	@touch $@

fuzz: setup ## 200,000 changed files for the attack, trace and snapshot parsers; one JSON line
	@$(PY) -m tests.engine.fuzz --inputs 200000

api-fuzz: $(VENV)/.stamp-dev ## 5,000 calls made from the API's document, as each kind of person; one JSON line
	@$(PY) -m tests.web.apifuzz --cases 5000

test-asan: $(VENV)/.stamp-dev ## the engine's tests under ASan and UBSan, and equal digests of all builds
	@$(PY) -m tests.engine.sanitizer

oracles: setup $(VENV)/.stamp-dev ## the policy's tests beside slow twins and CP-SAT, five times as many instances; the whole small model
	@ORACLES=5 $(PY) -m pytest -n 2 tests/policy tests/engine/test_model.py

stories: setup $(VENV)/.stamp-dev ## docs/stories: two negotiations as the screens show them and as vpms explain tells them
	@STORIES=docs/stories $(PY) -m pytest tests/web/test_counters.py tests/web/test_ladder.py -k "story_that or five_tenants"

coverage: $(VENV)/.stamp-dev ## which lines of the Cython sources the engine's tests run
	@$(PY) -m tests.engine.linecoverage

mutants: $(VENV)/.stamp-dev ## plant faults in the engine: the tests must notice each (takes long)
	@$(PY) -m tests.engine.mutants

setup: $(VENV)/.stamp-ext $(VENV)/.stamp-messages frontend/.stamp-build ## only prepare: venv, extensions, catalogues, frontend

preflight:
	@sh .ci/preflight $(PYTHON)

$(VENV)/bin/python: | preflight
	@$(PYTHON) -m venv $(VENV)

# uv is ten times faster; where it is missing or cannot reach the index, plain pip installs the same locked files.
define install
	@echo "installing $(1)"
	@{ [ -x $(VENV)/bin/uv ] || $(PY) -m pip install -q --require-hashes -r requirements-uv.lock 2>$(VENV)/uv.log; \
	   $(VENV)/bin/uv pip install -q --python $(PY) --require-hashes -r $(1) 2>>$(VENV)/uv.log; } \
	 || $(PY) -m pip install -q --require-hashes -r $(1)
endef

$(VENV)/.stamp-run: requirements.lock requirements-uv.lock | $(VENV)/bin/python
	$(call install,requirements.lock)
	@touch $@

$(VENV)/.stamp-dev: requirements-dev.lock | $(VENV)/.stamp-ext
	$(call install,requirements-dev.lock)
	@touch $@

$(VENV)/.stamp-ext: $(SOURCES) setup.py pyproject.toml $(VENV)/.stamp-run
	@echo "building the engine and the solver"
	@$(PY) -m pip install -q --no-deps --no-build-isolation -e . >$(VENV)/build.log 2>&1 || { tail -n 30 $(VENV)/build.log; exit 1; }
	@touch $@

$(VENV)/.stamp-messages: $(wildcard webapp/locale/*/LC_MESSAGES/*.po) webapp/catalogues.py | $(VENV)/.stamp-run
	@$(PY) -m webapp.catalogues compile
	@touch $@

$(VENV)/.stamp-browser: $(VENV)/.stamp-dev tests/e2e/browser.py
	@$(if $(filter 0,$(E2E)),true,$(PY) tests/e2e/browser.py && touch $@)

frontend/.stamp-npm: frontend/package-lock.json frontend/package.json | preflight
	@cd frontend && npm ci --silent --no-audit --no-fund
	@touch $@

frontend/.stamp-build: frontend/.stamp-npm $(FRONTEND)
	@cd frontend && npm run --silent build
	@touch $@

lock: ## remake the lock files from pyproject.toml
	@sh .ci/lock

clean: ## remove everything that make made, the demo's data included
	rm -rf $(VENV) $(VENV)-negmas .run build *.egg-info frontend/node_modules frontend/.stamp-* .browser webapp/static/live webapp/static/i18n
	find hsvm_engine webapp -name '*.so' -delete
	find webapp/locale -name '*.mo' -delete
