# What people type. The work is in scripts/; each says at its top what it does.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build demo demo-stop test soak check deny bench clean-data

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## Install what building and testing need (apt-get; without root it says what to run)
	@scripts/setup.sh test

build: ## Build the release binary and say where it is
	@scripts/build.sh

demo: ## Build, start a daemon on the embedded log, feed it events, and look at rows (KAFKA=host:port to use a Kafka)
	@scripts/demo.sh start

demo-stop: ## Stop the daemon that `make demo` left running
	@scripts/demo.sh stop

test: ## Run everything: format, lints, docs, licences, and all tests with a real Kafka broker
	@scripts/setup.sh test
	@scripts/test.sh all

soak: ## Run for long what looks for rare faults: pauses, kills, moody views (SEGNO_SOAK=20 times, SEGNO_SEED to choose)
	@scripts/setup.sh test
	@scripts/test.sh soak

check: ## Run the quick part of `make test`: format, lints, docs, house rules
	@scripts/setup.sh test
	@scripts/test.sh check

deny: ## Check licences, banned crates and sources
	@scripts/test.sh deny

bench: ## Run the benchmarks, with a Kafka broker (ARGS='--bench throughput -- ...' to choose)
	@scripts/setup.sh test
	@source scripts/env.sh && scripts/with-kafka.sh cargo bench --locked $(ARGS)

clean-data: demo-stop ## Stop the demo and remove its data
	@scripts/demo.sh clean
