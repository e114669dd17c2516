# Everything a person does here. `make help` lists it.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
TORCH := .venv-torch/bin
TORCH_READY := .venv-torch/.ready
VLLM := .venv-vllm/bin
VLLM_READY := .venv-vllm/.ready
TORCH_MODEL := all-MiniLM-L6-v2-float32
PROTOS := $(wildcard services/protos/*.proto)
export ALMANAC_DATA ?= ../shared/data

.DEFAULT_GOAL := help
.PHONY: help setup demo up down test test-all test-torch test-vllm test-long lint type locks licences sbom audit protos

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(READY) ## Install Almanac, its tools and its default models into .venv/ and the model cache

$(READY): pyproject.toml infra/constraints.txt services/common/models.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || \
		{ echo "Almanac needs Python 3.11 or 3.12; name one with PYTHON=..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the packages (about 1.1 GB on disk) ..."
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c infra/constraints.txt -e '.[local,dev]'
	$(BIN)/almanac models pull
	@touch $@

demo: setup ## Start a stack of its own, ingest the sample corpus, ask at several moments, stop
	@$(BIN)/python -m services.admin.demo

up: setup ## Start the stack and stay with it; Ctrl-C stops it
	$(BIN)/almanac up

down: ## Stop the stack
	$(BIN)/almanac down

test: setup ## Unit, contract and property tests: at most 5 minutes
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --session-timeout 300 -m 'not slow and not long'

test-all: $(if $(TESTED),setup,test) ## The above and integration, end-to-end and chaos tests in small: at most 45 minutes
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --session-timeout 2400 -m 'slow and not long'
	$(MAKE) --no-print-directory test-torch
	$(MAKE) --no-print-directory test-vllm

test-torch: setup $(TORCH_READY) ## The encoder's contract with its torch backend, in an environment of its own
	$(BIN)/almanac models pull $(TORCH_MODEL)
	$(TORCH)/python -m pytest -q --noconftest tests/contract/test_encoder.py tests/unit/test_encoder_torch.py

$(TORCH_READY): infra/torch-requirements.txt
	test -x $(TORCH)/python || $(PYTHON) -m venv .venv-torch
	@echo "Installing torch (about 1.5 GB on disk) ..."
	$(TORCH)/python -m pip install -qq --disable-pip-version-check -r $<
	@touch $@

test-vllm: setup $(VLLM_READY) ## The generator's contract with vLLM on the CPU, in an environment of its own
	$(VLLM)/python -m pytest -q --noconftest -W default --timeout 300 -k vllm \
		tests/contract/test_generator.py tests/unit/test_generator_vllm.py

$(VLLM_READY): infra/vllm-requirements.txt
	test -x $(VLLM)/python || $(PYTHON) -m venv .venv-vllm
	@echo "Installing vLLM (about 2.4 GB on disk) ..."
	$(VLLM)/python -m pip install -qq --disable-pip-version-check --no-compile --no-deps -r $<
	@touch $@

test-long: setup ## The full counts of every property and chaos test
	ALMANAC_PROPERTY_ROWS=100000 ALMANAC_CHAOS_KILLS=60 $(BIN)/python -m pytest -q --timeout 3600

lint: setup ## Style
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

type: setup ## Types
	$(BIN)/mypy

locks: setup ## Lock, with hashes, what the image of each service installs
	@for lock in infra/locks/*.txt; do target=$$(basename $$lock .txt); \
		case $$target in admin) extras='--extra admin --extra catalog -c infra/constraints.txt';; \
			orchestrator) extras='--extra orchestrator --extra s3 -c infra/constraints.txt';; \
			generator-gpu) extras='--extra generator --extra vllm';; \
			*) extras="--extra $$target -c infra/constraints.txt";; esac; \
		$(BIN)/uv pip compile -q pyproject.toml $$extras --generate-hashes --no-header \
			--python-version 3.11 --python-platform linux -o $$lock || exit 1; done

licences: setup ## List the licence of every package in the images (infra/licences.csv)
	$(BIN)/python infra/supply.py licences

sbom: setup ## Write a bill of materials (CycloneDX) for each image into build/sbom
	$(BIN)/python infra/supply.py sbom

audit: setup ## Ask what is known against the locked packages; says so where nobody can be asked
	$(BIN)/python infra/supply.py audit

protos: setup ## Regenerate the stubs of services/protos
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. $(PROTOS)
