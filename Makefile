# Two commands are enough: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
PY := .venv/bin/python
SCAN ?=
OUT ?= out/demo
STUDIES ?= studies
PORT ?= 8000
# Threads of torch that wait for each other soon sleep, as scripts/run/threads.py says: other programs slow them less
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 1000

.PHONY: help setup lock licences demo test fast contracts lint format docs json wheel weights check deploy label clean
help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: .venv/installed ## make .venv with the exact versions of requirements.lock

.venv/installed: requirements.lock
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "GLADE needs Python 3.11 or newer: make PYTHON=python3.11 ..."'
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	touch $@

# Torch's CUDA libraries depend on the build that was chosen (CPU or CUDA), so pip finds them anew on each machine.
lock: ## write the versions installed in .venv to requirements.lock, after an upgrade that passes the tests
	{ echo "# Exact versions for make setup, packages of packages included; written by: make lock"; $(PY) -m pip freeze \
	| sed -nE 's/^([A-Za-z0-9._-]+==[^+ ]+).*/\1/p' | grep -viE '^(nvidia|cuda|triton|pytorch-triton)'; } > $@.partial
	mv $@.partial requirements.lock
	touch .venv/installed

licences: setup ## the licence of every package that is needed, and whether it is accepted
	$(PY) -m apps.zoo.licences

demo: setup ## the phantom and one real scan (or SCAN=path) to isotropic volumes, a table and a report
	$(PY) -m apps.demo --output_dir $(OUT) $(if $(SCAN),--scan "$(SCAN)")

test: setup ## every test and every docstring example, a process per core; COVERAGE=yes: the share of lines run as well
	$(PY) -m pytest -n auto $(if $(COVERAGE),--cov --cov-report=)
	$(if $(COVERAGE),.venv/bin/coverage report --format=total | sed 's/.*/coverage of scripts and apps: &%/')

fast: setup ## the tests that take less than ten seconds each
	$(PY) -m pytest -n auto -m "not slow"

contracts: setup ## the contract tests alone
	$(PY) -m pytest -q tests/contracts

lint: setup ## ruff, formatting, the import rules of pyproject.toml, mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/mypy

format: setup ## correct and format with ruff
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

docs: setup ## the documentation site in site/, from docs/, configs/ and docstrings; runs the notebook
	.venv/bin/sphinx-build -q -W --keep-going -b html docs site

json: setup ## configs/inference.json from inference.yaml, for monai.bundle.load
	$(PY) -c 'from monai.bundle import ConfigParser as C; C.export_config_file(C.load_config_file("configs/inference.yaml"), "configs/inference.json", indent=2)'

wheel: setup ## dist/*.whl: the package glade, with the bundle inside
	$(PY) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

weights: OUT = runs
weights: TRAIN = $(PY) -m monai.bundle run training --dataset_dir "$(SCANS)" $(MORE) --config_file
weights: MIX = $(PY) -m monai.bundle run save_weights --config_file configs/inference.yaml
weights: LAYERS = 'configs/train.yaml','configs/shipped.yaml'
weights: setup ## faithful and sharp weights, trained from SCANS=folder into OUT/models (OUT=runs; a new OUT each time); MORE="--max_epochs 1" to try
	$(if $(SCANS),,$(error name the folder of scans: make weights SCANS=folder))
	mkdir -p "$(OUT)/models"
	$(TRAIN) "[$(LAYERS)]" --output_dir "$(OUT)/pairs"
	$(TRAIN) "[$(LAYERS),'configs/finish.yaml']" --start_from "$(OUT)/pairs/model.pt" --output_dir "$(OUT)/planes"
	$(TRAIN) "[$(LAYERS),'configs/volumes.yaml']" --start_from "$(OUT)/planes/model.pt" --output_dir "$(OUT)/volumes"
	$(MIX) --weights_path "$(OUT)/planes/model.pt" --sharp_weights_path "$(OUT)/volumes/model.pt" --sharpness 0.55 --save_weights '$$torch.save(@network.state_dict(), "$(OUT)/faithful.pt")'
	$(TRAIN) "[$(LAYERS),'configs/volumes.yaml','configs/sharp.yaml']" --start_from "$(OUT)/faithful.pt" --output_dir "$(OUT)/sharp"
	$(MIX) --weights_path "$(OUT)/faithful.pt" --sharp_weights_path "$(OUT)/sharp/model.pt" --sharpness 0.25 --save_weights '$$torch.save(@network.state_dict(), "$(OUT)/models/model.pt")'
	cp "$(OUT)/sharp/model.pt" "$(OUT)/models/model_sharp.pt"

deploy: OUT = out/deploy
deploy: .venv-deploy/installed ## the MONAI Deploy app on a folder of DICOM files: SCAN=folder [OUT=folder]
	$(if $(SCAN),,$(error name the folder of DICOM files: make deploy SCAN=folder))
	CUDA_VISIBLE_DEVICES= .venv-deploy/bin/python -m apps.deploy --input "$(SCAN)" --output "$(OUT)"

.venv-deploy/installed: apps/deploy/requirements.txt
	test -x .venv-deploy/bin/python || $(PYTHON) -m venv .venv-deploy
	.venv-deploy/bin/python -m pip install --quiet --disable-pip-version-check --requirement apps/deploy/requirements.txt
	touch $@

check: lint test ## lint, every test, and the checks of the MONAI model zoo
	$(PY) -m apps.zoo

label: .venv-label/installed ## MONAI Label on loopback over STUDIES=folder, PORT=8000
	.venv-label/bin/python -m apps.label --studies "$(STUDIES)" --port $(PORT)

.venv-label/installed: requirements.lock apps/label/requirements.txt
	test -x .venv-label/bin/python || $(PYTHON) -m venv .venv-label
	$(PYTHON) -c 'import tomllib; print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]))' > .venv-label/requirements.txt
	.venv-label/bin/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --requirement .venv-label/requirements.txt --requirement apps/label/requirements.txt
	.venv-label/bin/python -m pip install --quiet --disable-pip-version-check --no-deps monailabel==0.8.5
	touch $@

clean: ## remove everything made here: environments, results in out, trained weights in runs, caches
	rm -rf .venv .venv-deploy .venv-label dist out runs site .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis .coverage
