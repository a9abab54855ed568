# Meridian: `make demo` to see it run, `make test` to have it checked.
#
# Cargo alone builds everything too. What these targets add: the few system packages that the build needs, RocksDB
# compiled once a machine instead of once a profile (see .build/rocksdb), and build output outside the clone.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup setup-tests build sim demo test lint soak clean

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/meridian
CARGO_TARGET_DIR ?= $(CACHE)/target
export CARGO_TARGET_DIR

# Cargo with RocksDB's archive in its environment.
CARGO := .build/cargo

# How long the demo's benchmark runs; for how many minutes `make soak` simulates, from which seed on, and how many of each kind at most.
BENCH ?= 10s
MINUTES ?= 30
SEED ?= 1000
SEEDS ?= 100000

help:
	@echo "make demo    run three nodes in a temporary directory, a benchmark, and the SQL shell"
	@echo "make test    run every test"
	@echo "make build   build the release binary, $(CARGO_TARGET_DIR)/release/meridian"
	@echo "make sim     build the simulator beside it, meridian-sim"
	@echo "make lint    check the formatting, and lint"
	@echo "make soak    simulate clusters under faults for MINUTES=$(MINUTES), from SEED=$(SEED) on (at most SEEDS=$(SEEDS) of each kind), and trouble real ones"
	@echo "make setup   install what the build needs, with apt; make setup-tests: what the tests need, too"
	@echo "make clean   remove what cargo built; RocksDB's archive in $(CACHE)/rocksdb stays"

setup:
	@.build/setup

setup-tests:
	@.build/setup tests

build: setup
	@$(CARGO) build --release -p meridian-server
	@echo "Built $(CARGO_TARGET_DIR)/release/meridian"

# By itself: the demo has no need of it, and cargo would build the server with what the simulator asks of it.
sim: setup
	@$(CARGO) build --release -p meridian-cluster-tests --bin meridian-sim
	@echo "Built $(CARGO_TARGET_DIR)/release/meridian-sim"

demo: build
	@$(CARGO_TARGET_DIR)/release/meridian demo --bench $(BENCH)

test: setup-tests
	@$(CARGO) test --workspace --all-targets --no-fail-fast

lint: setup
	@cargo fmt --all --check
	@$(CARGO) clippy --workspace --all-targets -- -D warnings

# Simulated time first, spread over workloads and ways of clocks to be wrong, then real processes for a quarter of that.
soak: setup-tests sim
	@for workload in bank append register keyed; do for clocks in inside astray untrusted; do for nodes in 3 5; do \
	  echo "== $$workload on $$nodes nodes, clocks $$clocks"; \
	  $(CARGO_TARGET_DIR)/release/meridian-sim --workload $$workload --clocks $$clocks --nodes $$nodes --shrink \
	    --seed $(SEED) --seeds $(SEEDS) --seconds $$(( $(MINUTES) * 60 / 24 )) | grep -v ': ok,' || failed=1; \
	done; done; done; \
	NEMESIS_SEED=$(SEED) NEMESIS_SECONDS=$$(( $(MINUTES) * 15 )) \
	  $(CARGO) test -p meridian-server -p meridian-cluster-tests --bin meridian --test nemesis -- --nocapture || failed=1; \
	exit $${failed:-0}

clean:
	@cargo clean
