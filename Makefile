# What one does with this project, each by one word. `make` lists them.

.DEFAULT_GOAL := help
SHELL := /bin/sh

CARGO ?= cargo
E2E := $(or $(CARGO_TARGET_DIR),target)/debug/e2e
# An error says in words what happened; a failed assertion still shows where.
export RUST_LIB_BACKTRACE ?= 0

.PHONY: help demo demo-up demo-down test soak fuzz bench fmt lint generate generated audit e2e-tool setup toolchain

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: e2e-tool ## show the main job on a real control plane, step by step (DEMO_USE_CLUSTER=1: on the cluster of KUBECONFIG)
	@$(E2E) demo

demo-up: e2e-tool ## the same, and leave it running to play with
	@$(E2E) demo-up

demo-down: e2e-tool ## end what demo-up left running
	@$(E2E) demo-down

# The end-to-end tests wait more than they compute: one more goes side by side than there are cores.
test: export RUST_TEST_THREADS ?= $(shell echo $$(( $$(nproc 2>/dev/null || echo 2) + 1 )))
test: lint generated ## formatting, lints, generated files, unit and end-to-end tests
	@$(E2E) setup --tests
	$(CARGO) test --workspace

SOAK_SECONDS ?= 600

soak: ## ten minutes (SOAK_SECONDS): a provider's outage in all the ways that it can fail; leased credentials that work at every moment
	KEYFERRY_SOAK_SECONDS=$(SOAK_SECONDS) $(CARGO) test --workspace --test suite -- --nocapture outage credentials_work_at_every_moment

FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?= template path decode duration rewrite yaml
FUZZ_FLAGS ?= -rss_limit_mb=1024 -timeout=5 -max_len=4096

# No sanitizer: there is no unsafe code to find fault with. So the stable toolchain will do, and runs are twice as fast.
fuzz: toolchain ## look for panics and for endless work: templates, paths, decoding, durations, rewrites, YAML (FUZZ_SECONDS=600 each)
	@command -v c++ >/dev/null || { echo 'c++ is missing: install a C++ compiler (Debian: apt-get install g++)' >&2; exit 1; }
	@command -v python3 >/dev/null || { echo 'python3 is missing: it makes the inputs to start from' >&2; exit 1; }
	@command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz || { echo 'cargo-fuzz is missing, and cargo cannot install it' >&2; exit 1; }
	@python3 fuzz/seeds.py
	@for target in $(FUZZ_TARGETS); do \
	  echo "fuzzing $$target for $(FUZZ_SECONDS)s"; \
	  RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --sanitizer none $$target -- -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 -verbosity=0 $(FUZZ_FLAGS) -dict=fuzz/corpus/$$target.dict \
	    || { echo "fuzzing $$target found something: see fuzz/artifacts/$$target, and run it again by cargo fuzz run --sanitizer none $$target FILE" >&2; exit 1; }; \
	done

# Both programs without debugging aids: the bare client is as much part of the measurement as the operator.
bench: toolchain ## measure the operator beside a bare client (BENCH_QUICK=1: without 10,000 objects; BENCH_STRICT=1: fail on a miss)
	@$(CARGO) build --release --workspace --bins
	@$(dir $(patsubst %/,%,$(dir $(E2E))))release/e2e bench

lint: toolchain ## formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

fmt: ## format the code
	$(CARGO) fmt --all

generate: setup ## write the CRDs and all that is made from them
	UPDATE=1 $(CARGO) test --quiet --test crds
	HELM=$$($(E2E) path helm) python3 deploy/generate.py
	UPDATE=1 HELM=$$($(E2E) path helm) python3 charts/keyferry/tests/check.py

# The CRDs themselves are compared by `cargo test`.
generated: setup
	HELM=$$($(E2E) path helm) python3 deploy/generate.py --check
	HELM=$$($(E2E) path helm) python3 charts/keyferry/tests/check.py

audit: ## licences, sources and banned crates (needs cargo-deny)
	$(CARGO) deny check bans licenses sources

setup: e2e-tool ## find or build the programs that tests and demo need (the first time: about 10 minutes)
	@$(E2E) setup

# The whole workspace at once: one package alone would be built with other features of its dependencies.
e2e-tool: toolchain
	@$(CARGO) build --workspace --bins

toolchain:
	@command -v $(CARGO) >/dev/null || { echo 'cargo is missing: install Rust 1.95 or newer' >&2; exit 1; }
	@command -v cc >/dev/null || { echo 'cc is missing: install a C compiler (Debian: apt-get install build-essential)' >&2; exit 1; }
