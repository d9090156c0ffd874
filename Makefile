# The short way to everything. CMakePresets.json says how each build is configured.

PREFIX ?= /usr/local
JOBS ?= $(shell nproc)
CLANG_FORMAT ?= clang-format-14
# Where a sanitized build goes: a folder for each compiler, if CC and CXX name another.
SANITIZED_BUILD ?= build/$@

export CMAKE_BUILD_PARALLEL_LEVEL = $(JOBS)
export CTEST_PARALLEL_LEVEL = $(JOBS)
# Objects of one build serve in another of the same tree at the same depth: wheels too.
export CCACHE_BASEDIR = $(CURDIR)

# ccache, if there, is asked for at configure time: a first `make` may only just have installed it.
configure = CMAKE_CXX_COMPILER_LAUNCHER="$$(command -v ccache)" cmake --preset
formatted = find include src tests bench examples python -name '*.h' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh'

.PHONY: help build demo test asan tsan tsan-shared bench bench-compare cuda gpu-check format format-check wheel install
.PHONY: clean

help:
	@echo "make build         install what is missing (Debian 12), build the command build/release/ood"
	@echo "make demo          the same, then compare the detectors on examples/data/digits.h5"
	@echo "make test          build everything and run all tests"
	@echo "make asan          the tests under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make tsan          the tests under ThreadSanitizer"
	@echo "make tsan-shared   of these, only that one detector may be shared by threads"
	@echo "make bench         run the benchmarks"
	@echo "make bench-compare the same beside limits and peers (PyPI), into docs/benchmarks.md; BENCH_COMPARE=--no-torch"
	@echo "make cuda          the library, the command and benchmarks with code for NVIDIA GPUs, into build/cuda"
	@echo "make gpu-check     the same tested and measured on this machine's GPU"
	@echo "make format        format the C++ files; format-check only says which need it"
	@echo "make wheel         the Python package for each Python that is here, into dist/"
	@echo "make install       install library and command; PREFIX ($(PREFIX)) and DESTDIR are obeyed"
	@echo "make clean         remove build/"
	@echo "Each takes JOBS=n ($(JOBS))."

# The tests need more packages than the command does: only `make test` configures them.
build:
	scripts/install-deps
	$(configure) release -DOOD_BUILD_TESTS=OFF
	cmake --build --preset release --target ood ood_cli

demo: build
	build/release/ood eval examples/data/digits.h5

test:
	scripts/install-deps --test
	$(configure) release -DOOD_BUILD_TESTS=ON
	cmake --build --preset release
	ctest --preset release --no-label-summary

# clang's OpenMP runtime tells ThreadSanitizer where threads wait for each other; g++'s does not.
tsan tsan-shared: export CC = clang-14
tsan tsan-shared: export CXX = clang++-14
tsan tsan-shared: export TSAN_OPTIONS = ignore_noninstrumented_modules=1

asan: export LSAN_OPTIONS = suppressions=$(CURDIR)/cmake/lsan.supp:print_suppressions=0

# Sanitized code is slow and its memory use is not the program's own: some tests say nothing here.
asan tsan:
	scripts/install-deps --test $(if $(findstring tsan,$@),--dev)
	$(configure) $@ -B $(SANITIZED_BUILD)
	cmake --build $(SANITIZED_BUILD)
	ctest --test-dir $(SANITIZED_BUILD) --output-on-failure --no-label-summary \
	  --label-exclude '^(slow|memory)$$'

# A few minutes: the library and one test.
tsan-shared: SANITIZED_BUILD = build/tsan
tsan-shared:
	scripts/install-deps --test --dev
	$(configure) tsan -B $(SANITIZED_BUILD)
	cmake --build $(SANITIZED_BUILD) --target ood_shared_tests
	ctest --test-dir $(SANITIZED_BUILD) --output-on-failure --no-label-summary \
	  --tests-regex '^shared_detector$$'

bench:
	scripts/install-deps
	$(configure) release -DOOD_BUILD_TESTS=OFF
	cmake --build --preset release --target ood_bench
	build/release/bench/ood_bench

bench-compare:
	scripts/install-deps
	$(configure) release -DOOD_BUILD_TESTS=OFF
	cmake --build --preset release --target ood_bench
	scripts/bench-compare $(BENCH_COMPARE)

# Needs nvcc, but no GPU. CUDA_ARCHITECTURES=90-real, say, is faster than code for all.
cuda:
	scripts/install-deps
	$(configure) cuda -DOOD_BUILD_TESTS=OFF $(if $(CUDA_ARCHITECTURES),-DCMAKE_CUDA_ARCHITECTURES=$(CUDA_ARCHITECTURES))
	cmake --build --preset cuda --target ood ood_cli ood_cuda_bench

gpu-check:
	scripts/gpu-check

format format-check:
	@scripts/install-deps --dev
	@$(formatted) | xargs $(CLANG_FORMAT) $(if $(findstring check,$@),--dry-run --Werror,-i)

wheel:
	scripts/install-deps
	scripts/make-wheels

install: build
	DESTDIR="$(DESTDIR)" cmake --install build/release --prefix "$(PREFIX)"

clean:
	rm -rf build dist
