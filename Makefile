# `make` alone prints this list.

GO      ?= go
MODULES := . example test
LINT    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.DEFAULT_GOAL := help
.PHONY: help run test bench fuzz screenshot lint fmt

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## start the demo: two nodes, an nsqd and a database in one process; FLAGS="-h" lists its flags
	@$(GO) run ./example/board $(FLAGS)

test: ## everything: vet and all tests of every module with the race detector, real nsqd, PostgreSQL and Chromium
	@./.ci/dependencies
	@for m in $(MODULES); do (cd $$m && echo "== vet and test: $$m" && $(GO) vet ./... && $(GO) test -race -timeout 10m ./...) || exit 1; done

bench: ## the benchmarks beside the code, ready for benchstat
	@$(GO) test -run '^$$' -bench . -benchmem ./... | grep -v 'no test files'

fuzz: ## each fuzz target for FUZZTIME (10s)
	@./.ci/fuzz $${FUZZTIME:-10s}

screenshot: ## make docs/board.png anew
	@cd example && BOARD_SCREENSHOT=$(CURDIR)/docs/board.png $(GO) test -count 1 -run TestScreenshot ./board

lint: ## golangci-lint over every module
	@for m in $(MODULES); do (cd $$m && echo "== lint: $$m" && $(GO) run $(LINT) run --config $(CURDIR)/.golangci.yaml ./...) || exit 1; done

fmt: ## gofmt everything
	@gofmt -w $$(git ls-files '*.go')
