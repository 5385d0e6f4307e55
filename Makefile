# make deploy      bring this machine (or INVENTORY=inventories/prod.py) to a verified voice
# make test        everything below but picture and soak, and integration tests on real hosts in containers
# make check       the quick part: lint, types, unit tests
# make full-width  our model against transformers, as wide as the real one
# make programs    our programs, each as a process of its own
# make fuzz        hostile requests, and some generated from the API's document
# make browser     the page in a real browser
# make picture     the README's picture of the page, anew
# make soak        ten minutes of random faults on every rung

VENV := .venv
INVENTORY ?= @local
ARGS ?=
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	echo $$python; break; fi; done)
PINS := constraints.txt service/constraints.txt service/csm/constraints.txt
PIP_INSTALL := $(VENV)/bin/python -m pip install -qq --disable-pip-version-check \
	$(addprefix --constraint ,$(PINS))

.PHONY: deploy test check lint types unit full-width programs fuzz browser integration picture soak constraints clean

deploy: $(VENV)/.deploy
	@$(VENV)/bin/pyinfra -y $(INVENTORY) deploy.py $(ARGS)

test: check full-width programs fuzz browser integration

# Side by side: neither keeps two cores busy.
check: lint
	@$(MAKE) --no-print-directory -j2 types unit

lint: $(VENV)/.test
	@tests/timed lint sh -c '$(VENV)/bin/ruff check --quiet . && $(VENV)/bin/ruff format --quiet --check .'

types: $(VENV)/.test
	@tests/timed types $(VENV)/bin/mypy --no-error-summary

# Apart: pyinfra looks through all loaded modules at each operation, and torch brings thousands.
UNIT_TESTS := $(VENV)/bin/pytest -q -m 'not browser and not full_width and not fuzz and not program and not integration' \
	-n 2 --dist loadfile --no-loadscope-reorder

unit: $(VENV)/.test
	@tests/prerequisites espeak-ng
	@tests/timed 'unit tests of the deploy' $(UNIT_TESTS) tests/provision
	@tests/timed 'unit tests' $(UNIT_TESTS) --ignore tests/provision

full-width: $(VENV)/.test
	@tests/timed 'exactness at full width' $(VENV)/bin/pytest -q -m full_width -n 2 tests/csm

programs: $(VENV)/.test
	@tests/prerequisites espeak-ng
	@tests/timed 'our programs' $(VENV)/bin/pytest -q -m program -n 2

# FUZZ_EXAMPLES=500 goes deeper, and elsewhere each time.
fuzz: $(VENV)/.test
	@tests/prerequisites espeak-ng
	@tests/timed 'hostile and generated requests' $(VENV)/bin/pytest -q -m fuzz -n 2 tests/service

browser: $(VENV)/.test
	@tests/prerequisites espeak-ng browser
	@tests/timed 'browser tests' $(VENV)/bin/pytest -q -m browser -n 2

picture: $(VENV)/.test
	@tests/prerequisites espeak-ng browser
	@$(VENV)/bin/python -m tests.browser.picture docs/images/page.png

integration: $(VENV)/.test
	@tests/prerequisites espeak-ng debootstrap ip docker
	@tests/timed 'integration tests' $(VENV)/bin/pytest -q -m integration --durations=10

SOAK_SECONDS ?= 600

soak: $(VENV)/.test
	@tests/prerequisites espeak-ng
	@SOAK_SECONDS=$(SOAK_SECONDS) $(VENV)/bin/pytest -q -s -m integration tests/integration/test_soak.py

$(VENV)/bin/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "Python 3.11 or later is needed, and none was found: apt-get install python3 (on" \
		"Ubuntu 22.04: python3.11)" >&2; exit 1; fi
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		echo "This Python cannot make virtual environments yet: installing $(PYTHON)-venv"; \
		$(AS_ROOT) apt-get install -q -y $(PYTHON)-venv || { $(AS_ROOT) apt-get update -q && \
		$(AS_ROOT) apt-get install -q -y $(PYTHON)-venv; }; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.deploy: $(VENV)/bin/python pyproject.toml service/requirements.txt $(PINS)
	@echo "Installing the deploy into $(VENV) …"
	@$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.deploy tests/requirements.txt tests/csm-oracles.txt service/csm/requirements.txt
	@echo "Installing what the tests need into $(VENV) …"
	@$(PIP_INSTALL) --editable '.[csm,service,test]'
	@$(PIP_INSTALL) --no-deps --requirement tests/csm-oracles.txt
	@touch $@

# Pin the newest versions that fit: the service's own, then the CSM library's, then the rest around
# them. Each file holds what the files before it do not.
constraints:
	@rm -rf build/pins && $(PYTHON) -m venv build/pins
	@build/pins/bin/pip install --quiet --requirement service/requirements.txt
	@build/pins/bin/pip freeze > service/constraints.txt
	@build/pins/bin/pip install --quiet --constraint service/constraints.txt --requirement service/csm/requirements.txt
	@build/pins/bin/pip freeze | grep -vxFf service/constraints.txt > service/csm/constraints.txt
	@build/pins/bin/pip install --quiet --constraint service/constraints.txt --constraint service/csm/constraints.txt \
		--editable '.[csm,service,test]'
	@build/pins/bin/pip freeze --exclude-editable | grep -vxFf service/constraints.txt \
		| grep -vxFf service/csm/constraints.txt > constraints.txt
	@rm -rf build/pins

clean:
	@rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache
