# Everything a developer or a newcomer types. Needs Python 3.11 and make, nothing else.
.DEFAULT_GOAL := help
PYTHON ?= python3.11
BIN := .venv/bin
IMAGE ?=
WITHOUT_SERVERS := tests/unit tests/contracts/test_slides.py tests/contracts/test_slides_of_folders.py
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help:  ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

.PHONY: setup
setup: .venv/.installed .venv-triton/.installed  ## Install everything into .venv and .venv-triton

.venv/.installed: pyproject.toml sdk/pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed; name it: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing the platform into .venv (a few minutes the first time) ..."
	@# torch first and by pip: a CPU build is taken where one lies on disk
	@$(BIN)/pip install --quiet --constraint constraints.txt torch==2.13.0
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable sdk --editable '.[dev]'
	@touch $@

.venv-triton/.installed: deploy/local/triton-requirements.txt
	@test -x .venv-triton/bin/python || $(PYTHON) -m venv .venv-triton
	@echo "installing the model server into .venv-triton ..."
	@.venv-triton/bin/pip install --quiet --no-deps --requirement deploy/local/triton-requirements.txt
	@touch $@

.PHONY: demo
demo: setup  ## Train a small model, segment an image, show what came out (IMAGE=path for your own)
	@$(BIN)/python -m deploy.local.demo $(if $(IMAGE),--image '$(IMAGE)')

.PHONY: up
up: setup  ## Run the platform until Ctrl-C; its data stays in .overtile/
	@$(BIN)/python -m deploy.local.up

.PHONY: down
down: setup  ## Stop a platform that `make up` runs elsewhere
	@$(BIN)/python -m deploy.local.down

.PHONY: check
check: setup  ## Lint, types, architecture, the quick unit tests: under two minutes
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy --strict sdk/overtile
	@$(BIN)/lint-imports
	@OMP_NUM_THREADS=1 $(BIN)/pytest -q --numprocesses 2 --dist loadfile tests/unit -m "not long"

.PHONY: test
test: setup  ## Every test, on real servers that the tests start and stop
	@OMP_NUM_THREADS=1 $(BIN)/pytest -q --numprocesses 2 --dist loadfile $(WITHOUT_SERVERS)
	@$(BIN)/pytest tests $(addprefix --ignore=,$(WITHOUT_SERVERS))

.PHONY: bench
bench: setup  ## Measure speed; the last line of output is one JSON object
	@$(BIN)/python -m benchmarks.inference
