# The two commands: `make run` and `make test`. Both install what is missing on Debian when run as
# root; set NO_INSTALL=1 to be told the line to run instead.

# Outside the checkout, so that the C++ of RocksDB is built once per machine and not per clone.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/antumbra/target
export ANTUMBRA_TOOLS ?= $(HOME)/.cache/antumbra/tools
export PATH := $(ANTUMBRA_TOOLS)/bin:$(PATH)

.PHONY: help run build dist test test-long bench docs image deploy-check observability-check clean

help: ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

run: ## Build and start a durable cluster of three nodes on this machine
	@.ci/setup run
	@cargo build --locked --workspace --bin antumbra
	@exec $(CARGO_TARGET_DIR)/debug/antumbra dev --nodes 3

build: ## Build everything
	@.ci/setup run
	@cargo build --locked --workspace --all-targets

dist: ## Build the program as it is shipped: optimised as a whole, laid out by a trial run
	@.ci/setup dist
	@.ci/dist

test: ## Everything that continuous integration runs
	@.ci/setup test
	@.ci/test short

test-long: ## The rest: million-step properties, ten-minute runs
	@.ci/setup test
	@.ci/test long

observability-check: ## Alerts, their tests and the dashboard, against the metrics of a node
	@.ci/setup run
	@cargo build --locked --workspace --bin antumbra
	@ANTUMBRA_BIN=$(CARGO_TARGET_DIR)/debug/antumbra deploy/observability/check

bench: ## Micro benchmarks of the document, then a node under load
	@.ci/setup run
	@cargo bench --locked --profile dev --workspace --bench document
	@.ci/bench

docs: ## Regenerate docs/configuration.md and docs/antumbra.toml
	@.ci/setup run
	@cargo build --locked --workspace --bin antumbra
	@$(CARGO_TARGET_DIR)/debug/antumbra config docs docs

image: dist ## Pack the program as it is shipped into an image, and try it
	@deploy/image/build $(CARGO_TARGET_DIR)/dist/antumbra

deploy-check: ## Check the chart, the image and the runbooks of deploy/
	@.ci/setup run
	@cargo build --locked --workspace --bin antumbra
	@ANTUMBRA_BIN=$(CARGO_TARGET_DIR)/debug/antumbra deploy/ci/check

clean: ## Remove what was built for this machine (RocksDB included)
	@rm -rf $(CARGO_TARGET_DIR)
