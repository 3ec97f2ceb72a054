# Two commands are enough: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
PY := .venv/bin/python
SCAN ?=
OUT ?= out/demo
STUDIES ?= studies
PORT ?= 8000

.PHONY: help setup demo test fast lint format contracts json weights check deploy label clean
help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: .venv/installed ## make .venv with pinned packages

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "GLADE needs Python 3.11 or newer: make PYTHON=python3.11 ..."'
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -c 'import tomllib; d = tomllib.load(open("pyproject.toml", "rb"))["project"]; print("\n".join(d["dependencies"] + d["optional-dependencies"]["dev"]))' > .venv/requirements.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --requirement .venv/requirements.txt
	touch $@

demo: setup ## the phantom and one real scan (or SCAN=path) to isotropic volumes, a table and a report
	$(PY) -m apps.demo --output_dir $(OUT) $(if $(SCAN),--scan "$(SCAN)")

test: setup ## every test, on as many processes as there are cores
	$(PY) -m pytest -n auto

fast: setup ## the tests that take less than ten seconds each
	$(PY) -m pytest -n auto -m "not slow"

contracts: setup ## the contract tests alone
	$(PY) -m pytest -q tests/contracts

lint: setup ## ruff, import-linter, mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/mypy

format: setup ## ruff, mending
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

json: setup ## configs/inference.json from inference.yaml, for monai.bundle.load
	$(PY) -c 'from monai.bundle import ConfigParser as C; C.export_config_file(C.load_config_file("configs/inference.yaml"), "configs/inference.json", indent=2)'

weights: OUT = runs
weights: TRAIN = $(PY) -m monai.bundle run training --dataset_dir "$(SCANS)" $(MORE) --config_file
weights: setup ## both ends of the dial, trained from SCANS=folder into OUT=runs/models; MORE="--max_epochs 1" to try
	$(if $(SCANS),,$(error say which folder of scans: make weights SCANS=folder))
	mkdir -p "$(OUT)/models"
	$(TRAIN) "['configs/train.yaml','configs/shipped.yaml']" --output_dir "$(OUT)/pairs"
	$(TRAIN) "['configs/train.yaml','configs/shipped.yaml','configs/finish.yaml']" --start_from "$(OUT)/pairs/model.pt" --output_dir "$(OUT)/faithful"
	$(TRAIN) "['configs/train.yaml','configs/shipped.yaml','configs/sharp.yaml']" --start_from "$(OUT)/faithful/model.pt" --output_dir "$(OUT)/sharp"
	$(PY) -m monai.bundle run mixture --config_file configs/inference.yaml --weights_path "$(OUT)/faithful/model.pt" --sharp_weights_path "$(OUT)/sharp/model.pt" --sharpness 0.25 --mixture '$$torch.save(@network.state_dict(), "$(OUT)/models/model.pt")'
	cp "$(OUT)/sharp/model.pt" "$(OUT)/models/model_sharp.pt"

deploy: OUT = out/deploy
deploy: .venv-deploy/installed ## the MONAI Deploy app on a folder of DICOM: SCAN=folder [OUT=folder]
	$(if $(SCAN),,$(error say which folder of DICOM: make deploy SCAN=folder))
	CUDA_VISIBLE_DEVICES= .venv-deploy/bin/python -m apps.deploy --input "$(SCAN)" --output "$(OUT)"

.venv-deploy/installed: apps/deploy/requirements.txt
	test -x .venv-deploy/bin/python || $(PYTHON) -m venv .venv-deploy
	.venv-deploy/bin/python -m pip install --quiet --disable-pip-version-check --requirement apps/deploy/requirements.txt
	touch $@

check: lint test ## lint, every test, and the list of the model zoo's checks with their outcome
	$(PY) -m apps.zoo

label: .venv-label/installed ## MONAI Label on loopback over STUDIES=folder, PORT=8000
	.venv-label/bin/python -m apps.label --studies "$(STUDIES)" --port $(PORT)

.venv-label/installed: pyproject.toml apps/label/requirements.txt
	test -x .venv-label/bin/python || $(PYTHON) -m venv .venv-label
	$(PYTHON) -c 'import tomllib; print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]))' > .venv-label/requirements.txt
	.venv-label/bin/python -m pip install --quiet --disable-pip-version-check --requirement .venv-label/requirements.txt --requirement apps/label/requirements.txt
	.venv-label/bin/python -m pip install --quiet --disable-pip-version-check --no-deps monailabel==0.8.5
	touch $@

clean: ## remove what was made here, .venv included
	rm -rf .venv .venv-deploy .venv-label out runs .pytest_cache .ruff_cache .hypothesis
