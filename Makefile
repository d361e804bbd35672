# On a fresh machine, `make demo` and `make test` install everything they need.
# Requirements: Python 3.11 or newer and make. To choose the interpreter: `make demo PYTHON=python3.12`.
SHELL := /bin/sh
PY := .venv/bin/python
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

# Keeps the demo in this folder on the organisers' server, which sets these variables.
unexport SM_CHANNEL_TRAIN SM_CHANNEL_EVAL SM_MODEL_DIR SM_OUTPUT_DATA_DIR
# Many containers set this; then each process compiles all of torch's sources again, which takes longer than a test.
unexport PYTHONDONTWRITEBYTECODE

# The tests run one thread each; a test that waits for a process leaves its core to another.
PARALLEL := -n auto --maxprocesses 4 --dist worksteal

.PHONY: help demo test test-all test-long fuzz notebooks pair bench bench-gpu docs browser-runtime lint .venv

help:
	@echo "make demo      install, render synthetic data, train folds, write and score submissions/demo.csv"
	@echo "make test      install, lint and run the tests (under 6 minutes on two cores)"
	@echo "make test-all  also the tests marked slow, and the notebooks"
	@echo "make test-long the tests marked long: a small model of each timm family, variants of slow tests (half an hour)"
	@echo "make fuzz      read 100,000 damaged files of all kinds, with a new seed (an hour on two cores); CASES=, SEED="
	@echo "make notebooks run the notebooks on the demo's run (installs their packages)"
	@echo "make pair      update the .ipynb of each notebook from its .py"
	@echo "make bench     compare the speed with other pipelines: benchmarks/results.json and .png (under 8 minutes)"
	@echo "make bench-gpu check and measure maskfold on a GPU: benchmarks/gpu.json and .md (at most 8 minutes)"
	@echo "make docs      write the configuration reference, the picture in the README and the flags of the schema"
	@echo "make browser-runtime  get the files of onnxruntime-web from npm again and check their hashes"
	@echo "make lint      ruff check, ruff format --check and mypy"
	@echo "make .venv     only install"

demo: .venv
	@$(PY) scripts/make_demo_data.py --out data/demo --people 120 --eval-people 40
	@$(PY) scripts/pipeline.py configs/demo.yaml --tta none hflip \
	  --out submissions/demo.csv --truth data/demo/answers.csv

test: lint
	@$(PY) -m pytest $(PARALLEL)

test-all: lint notebooks
	@$(PY) -m pytest $(PARALLEL) -m 'not long'

# Run it after an update of timm or Accelerate, and after a change of how processes end.
test-long: .venv
	@$(PY) -m pytest $(PARALLEL) -m long

# Prints the number of cases, seconds and the seed at its end; SEED= of a failed run repeats it.
fuzz: .venv
	@FUZZ_CASES=$(or $(CASES),100000) FUZZ_SEED=$(or $(SEED),$$(date +%s)) $(PY) -m pytest $(PARALLEL) -m slow tests/fuzz

# Uses the run of the demo without changing it.
notebooks: .venv/.notebooks
	@test -f runs/demo/summary.json || $(MAKE) demo
	@$(PY) -m pytest --nbmake --nbmake-timeout 300 notebooks

# Run it after a change of a notebook's .py.
pair: .venv
	@$(PY) -m jupytext --quiet --to ipynb --update notebooks/*.py

# To use your own data: make bench BENCH='--data FOLDER'.
bench: .venv
	@$(PY) benchmarks/run.py $(BENCH)

# Needs a GPU with 24 GB; to test the battery itself on a CPU: make bench-gpu BENCH='--device cpu --tiny'.
bench-gpu: .venv
	@$(PY) benchmarks/gpu.py $(BENCH)

# Run it after a change of the schema or of the synthetic people.
docs: .venv
	@$(PY) docs/build.py

# The page of an export contains these files. To update them, change the version, sha256sums.txt and LICENSE.
ORT_WEB := 1.30.0
RUNTIME := $(CURDIR)/src/maskfold/export/browser/onnxruntime-web
browser-runtime:
	@folder=$$(mktemp -d) && cd "$$folder" && npm pack --silent onnxruntime-web@$(ORT_WEB) && tar xzf *.tgz \
	  && cd package/dist && sha256sum --check "$(RUNTIME)/sha256sums.txt" \
	  && for file in ort-wasm-simd-threaded.wasm ort.wasm.bundle.min.mjs; do gzip -9nc $$file > "$(RUNTIME)/$$file.gz"; done; \
	status=$$?; rm -rf "$$folder"; exit $$status

lint: .venv
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

.venv: .venv/.installed

.venv/.notebooks: .venv/.installed
	@$(PY) -m uv pip install -q --python $(PY) -e '.[notebooks]' || $(PY) -m pip install -q --disable-pip-version-check -e '.[notebooks]'
	@touch $@

# uv is faster than pip and shares files between environments; if it fails, pip installs the same packages.
.venv/.installed: requirements.txt pyproject.toml
	@python="$(PYTHON)"; \
	for candidate in python3 python3.14 python3.13 python3.12 python3.11; do \
	  if [ -z "$$python" ] && "$$candidate" -c '$(NEW_ENOUGH)' 2>/dev/null; then python="$$candidate"; fi; \
	done; \
	if [ -z "$$python" ]; then echo "error: no Python 3.11 or newer found; name one: make PYTHON=/path/to/python" >&2; exit 2; fi; \
	echo "installing into .venv (once; some minutes, several GB)"; \
	"$$python" -m venv .venv
	@if $(PY) -m pip install -q --disable-pip-version-check uv \
	  && $(PY) -m uv pip install -q --python $(PY) -r requirements.txt -e '.[dev]'; then :; \
	else $(PY) -m pip install -q --disable-pip-version-check -r requirements.txt -e '.[dev]'; fi
	@touch $@
