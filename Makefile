# Needs make and a Python of 3.11 or newer: every target first makes .venv and installs what it needs. For Python 3.13 and
# newer no package carries a Redis, so that demo, up, test and bench need a redis-server on the PATH.

VENV := .venv
PY := $(VENV)/bin/python
SOURCES := web worker common local migrations bench chaos tests wsgi.py
# Many tests wait, so two cores take four processes; each has a stack of its own. The slow files come first.
TEST_PROCESSES := -n 4 --dist loadfile --no-loadscope-reorder
UV := uv==0.13.8
COMPILE = $(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade)

# Where this is set, each process of a stack would compile all of Batchyard as it starts.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo up test cases bench chaos check lock clean clean-data FORCE

help: ## say what each target does
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  make %-12s %s\n' "$$name" "$$text"; done

demo: $(VENV)/.local ## 1,000 prompts from a CSV, in and out through the public API
	@exec $(PY) -m local.demo $(ARGS)

up: $(VENV)/.local ## the whole stack on this machine, until Ctrl-C (PORT, WORKERS, BATCHYARD_HOME)
	@exec $(PY) -m local up

test: $(VENV)/.dev ## every test (ARGS="-k name -x" goes to pytest)
	@exec $(PY) -m pytest $(TEST_PROCESSES) $(ARGS)

cases: $(VENV)/.dev ## some thousand requests made of the OpenAPI document (EXAMPLES=100 of each kind)
	@OPENAPI_EXAMPLES=$(or $(EXAMPLES),100) $(PY) -m pytest -s tests/acceptance/test_openapi_cases.py $(ARGS)

bench: $(VENV)/.dev ## measure, with baselines in the same run
	@exec $(PY) -m bench $(ARGS)

chaos: $(VENV)/.dev ## kill, empty and restart everything under 20,000 jobs, and check the books (ARGS="--seed 7" repeats)
	@exec $(PY) -m chaos $(ARGS)

# worker.py is handed over as text: as a file it would be a second module named worker, beside the package.
check: $(VENV)/.dev ## lint, format and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy --strict $(SOURCES)
	@echo $(PY) -m mypy --strict worker.py; $(PY) -m mypy --strict -c "$$(cat worker.py)"

lock: $(VENV)/.made ## compile requirements/*.in again (UPGRADE=1 takes the newest releases)
	$(PY) -m pip install -qq --disable-pip-version-check $(UV)
	cd requirements && for name in run local dev; do \
		$(subst $(PY),../$(PY),$(COMPILE)) $$name.in --output-file $$name.txt || exit; done

clean: ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

clean-data: $(VENV)/.local ## remove the local stack's data (BATCHYARD_HOME)
	@exec $(PY) -m local remove

# dev.txt holds all of local.txt, and local.txt all of run.txt, at the same versions.
$(VENV)/.local $(VENV)/.dev: $(VENV)/.%: requirements/%.txt $(VENV)/.made
	@echo "installing $< into $(VENV)"
	@$(PY) -m pip install -qq --disable-pip-version-check --require-hashes -r $<
	@touch $@

# Made anew when its interpreter has gone, as after an upgrade of the system's Python.
$(VENV)/.made: $(shell test -x $(PY) || echo FORCE)
	@sh ./.ci/make-venv $(VENV) $(PYTHON)
	@touch $@

FORCE:
