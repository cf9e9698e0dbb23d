# Everything runs inside .venv, which each target makes when it is missing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
PARITY_DIR ?= ../shared/parity
DATA_DIR ?= $(PARITY_DIR)/../data
PYTEST_ARGS ?=

.PHONY: help demo test fuzz lint parity docs interop d2-tests long benchmark demo-weights wheel clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt torch
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed  ## train, evaluate and report a small Mask R-CNN
	$(BIN)/retinue demo --output output/demo

test: $(VENV)/.installed  ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m 'not gpu and not interop and not long' $(PYTEST_ARGS)

SECONDS ?= 60
fuzz: $(VENV)/.installed  ## feed the checkpoint reader with damaged files, for SECONDS=60
	OMP_NUM_THREADS=1 $(BIN)/python tests/checkpoint/fuzz.py $(SECONDS)

lint: $(VENV)/.installed  ## style, types, architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

parity: $(VENV)/.installed  ## compare with numbers recorded from detectron2
	$(BIN)/python tests/parity/run.py $(PARITY_DIR) --data-dir $(DATA_DIR) $(PARITY_ARGS)

$(VENV)/.docs: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

docs: $(VENV)/.docs  ## build the documentation in output/docs
	$(BIN)/sphinx-build --fresh-env --fail-on-warning --keep-going --quiet docs output/docs

wheel: $(VENV)/.installed  ## build the wheel and import it in an empty environment
	rm -rf dist output/wheel-venv
	$(BIN)/python -m build --wheel --outdir dist
	$(PYTHON) -m venv output/wheel-venv
	output/wheel-venv/bin/pip --disable-pip-version-check install --quiet --constraint constraints.txt torch
	output/wheel-venv/bin/pip --disable-pip-version-check install --quiet --constraint constraints.txt dist/*.whl
	cd output && wheel-venv/bin/python -c "import retinue; print(retinue.__version__, retinue.__file__)"
	cd output && wheel-venv/bin/retinue --help > /dev/null
	cd output && wheel-venv/bin/retinue doctor

.venv-interop/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-interop
	.venv-interop/bin/pip --disable-pip-version-check install --quiet torch torchvision pycocotools lvis cityscapesscripts
	.venv-interop/bin/pip --disable-pip-version-check install --quiet --editable '.[test,timm,torchvision]'
	touch $@

interop: .venv-interop/.installed  ## tests and benchmarks against torchvision, timm and other peers
	.venv-interop/bin/python -m pytest -m interop $(PYTEST_ARGS)
	.venv-interop/bin/python benchmarks/run.py

.venv-interop/.d2-tests: .venv-interop/.installed
	.venv-interop/bin/pip --disable-pip-version-check install --quiet --editable '.[compat]' tensorboard opencv-python-headless
	touch $@

# D2 is a clone of detectron2; it is only read. ONLINE=1 runs what downloads, too.
D2 ?= ../detectron2
d2-tests: .venv-interop/.d2-tests  ## run detectron2's own tests on retinue: make d2-tests D2=path
	.venv-interop/bin/python tests/long/detectron2_tests.py $(D2) $(if $(ONLINE),--online) $(PYTEST_ARGS)

long: $(VENV)/.installed  ## what is too slow for CI: kill loops, soaks
	$(BIN)/python -m pytest -m long $(PYTEST_ARGS)

# Oldest and newest of what is supported; ends of `versions` in .github/workflows/test.yml.
PYTHON_OLDEST ?= python3.10
PYTHON_NEWEST ?= python3.13
MATRIX_ARGS ?= -n 2 -m 'not slow and not gpu and not interop and not long'
matrix: .venv-oldest/.installed .venv-newest/.installed  ## test on Python 3.10 with PyTorch 2.6, and on 3.13 with the newest of all
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest $(MATRIX_ARGS) $(PYTEST_ARGS)
	OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest $(MATRIX_ARGS) $(PYTEST_ARGS)

.venv-oldest/.installed: pyproject.toml
	$(PYTHON_OLDEST) -m venv .venv-oldest
	.venv-oldest/bin/pip --disable-pip-version-check install --quiet 'torch==2.6.*' --editable '.[test]'
	touch $@

.venv-newest/.installed: pyproject.toml
	$(PYTHON_NEWEST) -m venv .venv-newest
	.venv-newest/bin/pip --disable-pip-version-check install --quiet --upgrade torch 'numpy>=2' 'pillow>=12' 'setuptools>=82' --editable '.[test]'
	.venv-newest/bin/python -c "import importlib.util as u; assert u.find_spec('pkg_resources') is None"
	touch $@

benchmark: $(VENV)/.installed  ## time everything in benchmarks/
	$(BIN)/python benchmarks/run.py

demo-weights: $(VENV)/.installed  ## train the demo model that ships in the wheel again
	$(BIN)/retinue demo --output output/demo-weights --save-weights src/retinue/model_zoo/demo

clean:  ## remove what the targets made
	rm -rf $(VENV) .venv-interop .venv-oldest .venv-newest dist output .pytest_cache .mypy_cache .ruff_cache
