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

# How long the demo's benchmark runs, and which seeds `make soak` simulates.
BENCH ?= 10s
SEED ?= 1000
SEEDS ?= 1000

help:
	@echo "make demo    run three nodes in a temporary directory, a benchmark, and the SQL shell"
	@echo "make test    run every test"
	@echo "make build   build the release binary, $(CARGO_TARGET_DIR)/release/meridian"
	@echo "make sim     build the simulator beside it, meridian-sim"
	@echo "make lint    check the formatting, and lint"
	@echo "make soak    simulate clusters under faults: SEEDS=$(SEEDS) of them, from SEED=$(SEED) on"
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

soak: setup
	@SIM_SEED=$(SEED) SIM_SEEDS=$(SEEDS) $(CARGO) test -p meridian-cluster-tests --test bank --test append --test register -- --nocapture nodes_

clean:
	@cargo clean
