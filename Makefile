# make test | make demo: each sets up .venv by itself; a second call starts at once.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.ready
RUN    := $(VENV)/.ready-to-run
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax

help:                ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/'

.PHONY: help prove test test-slow notebooks chaos attack demo demo-seeds lint format bench setup clean
setup: $(STAMP)      ## only the environment

INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check --no-compile \
	-c constraints.txt -e

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) '.[dev]'
	touch $@ $(RUN)

$(RUN): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) '.[report]'
	touch $@

test: $(STAMP)       ## the default suite: unit, property, doctests (17 minutes on 2 cores, more the first time)
	$(PY) -m pytest -q -n 2 --dist loadfile

test-slow: $(STAMP)  ## what takes minutes: notebooks, long kill tests, whole experiments
	$(PY) -m pytest -q -m slow

notebooks: $(STAMP)  ## execute the four notebooks
	$(PY) -m pytest -q -m slow tests/test_notebooks.py

chaos: $(STAMP)      ## 100 kills per kind
	$(PY) -m pytest -q -m chaos

attack: $(STAMP)     ## damage, lies, kills, full disks; a table. ARGS="--quick --only damage"
	$(PY) tests/attack $(ARGS)

demo: $(RUN)         ## all of InstructGPT on the embedded world, then report.html
	$(VENV)/bin/rlhf-jax run experiments/quickstart.py --workdir runs/quickstart --jobs 2

demo-seeds: $(RUN)   ## the demo with seeds 0, 1, 2, and one table of their claims
	for s in 0 1 2; do $(VENV)/bin/rlhf-jax run experiments/quickstart.py \
	  --config.seed=$$s --workdir runs/quickstart-$$s --jobs 2 || exit 1; done
	$(PY) experiments/quickstart_seeds.py runs/quickstart-*

lint: $(STAMP)
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

format: $(STAMP)
	$(VENV)/bin/ruff check --fix . && $(VENV)/bin/ruff format .

prove: $(STAMP)      ## is this machine right and fast: one table, 8 minutes
	$(PY) benchmarks/prove.py

bench: $(STAMP)      ## every benchmark, one JSON line per figure
	for f in benchmarks/*.py; do $(PY) $$f || exit 1; done

clean:
	rm -rf $(VENV) .cache build *.egg-info
