# Everything runs in .venv, which each target makes as it needs it: nothing but Python >= 3.11 and make is assumed.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: test demo lint docs man bench soak fuzz torture packages packages-test release clean

test: lint
	$(BIN)/pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

demo: $(VENV)/.installed
	$(BIN)/python -m tests.simulator.demo $(DEMO_ARGS)

# The site: README, docs/ and the reference of the public API, in build/site. Nothing is fetched for it but its tools.
PAGES = README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md docs deploy tests/README.md
docs: $(VENV)/.docs
	rm -rf build/pages build/site
	mkdir -p build/pages
	cp --parents --recursive $(PAGES) build/pages
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# Man pages in build/man, and completion of the commands in shells in build/completion, from the parsers.
man: $(VENV)/.installed
	rm -rf build/man build/completion
	$(BIN)/python deploy/manual.py build

# Long runs that print their figures; left out of `make test`.
soak: $(VENV)/.installed
	$(BIN)/pytest -m soak -n 0 -s --timeout 7200 $(SOAK_ARGS)

# Hostile input, led by coverage: millions of inputs for each parser. FUZZ_ARGS="line --runs 10000000" for one of them.
fuzz: $(VENV)/.fuzz
	$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

# Everything that can go wrong, at length: prints what was lost. TORTURE_ARGS="--seed 7 --minutes 30" for more of it.
torture: $(VENV)/.installed
	$(BIN)/python -m tests.torture $(TORTURE_ARGS)

bench: $(VENV)/.installed
	mkdir -p build
	$(BIN)/python -m benchmarks --json build/bench.json $(BENCH_ARGS)

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed; name one with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# rpm and deb in dist/packages: docs/packages.md. From a source distribution, so that nothing else of this folder gets in.
packages: $(VENV)/.packages man
	rm -f dist/*.whl dist/*.tar.gz
	$(BIN)/python -m build --quiet --no-isolation --outdir dist .
	$(BIN)/python deploy/packages/download.py build/wheels
	$(BIN)/python deploy/packages/pack.py dist/*.whl

# Installs them in clean roots without a network, as root: needs mmdebstrap, rpm and rpmlint.
packages-test: packages build/bookworm.tar
	unshare --net --mount sh -c 'ip link set lo up && exec $(BIN)/pytest -m packages -n 2 tests/packages'

build/bookworm.tar:
	mkdir -p build
	mmdebstrap --quiet --variant=apt --format=tar --include=python3 bookworm $@.new
	mv $@.new $@

# All that is published, in dist/, with checksums and a list of what is inside: docs/releasing.md.
release: $(VENV)/.release
	rm -rf dist
	$(MAKE) packages
	$(BIN)/python deploy/packages/release.py dist

$(VENV)/.packages: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[packages]'
	@touch $@

$(VENV)/.release: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[packages,release]'
	@touch $@

$(VENV)/.fuzz: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	@touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
