# `make` alone prints this list.

GO      ?= go
MODULES := . bench example test
LINT    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# go test, with all that the tests write kept for the search at the end. A test that
# hangs for a minute of an idle machine is ended with its stacks, or for as long as -hang
# says, which is several times what the longest takes; -timeout is for what it misses.
KEPT   := $(CURDIR)/bin/kept
GOTEST := GO=$(GO) $(CURDIR)/bin/gotest $(KEPT)
# A command that is long silent, or says too much.
SAY    := $(CURDIR)/.ci/progress

.DEFAULT_GOAL := help
.PHONY: help run test test-library test-example test-javascript test-bench test-parts check check-all faults bench bench-quick microbench stress fuzz screenshot lint fmt

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Without C, so that a machine needs no compiler but Go's for it.
run: ## start the demo: two nodes, an nsqd and a database in one process; FLAGS="-h" lists its flags
	@$(SAY) "compiling the demo: a minute or two the first time" env CGO_ENABLED=0 $(GO) build -v -o bin/board ./example/board && exec bin/board $(FLAGS)

test: ## vet and the tests of every module, with the race detector, real nsqd, PostgreSQL, Node and Chromium; no secret in their output
	@echo "make test runs the tests, with real parts: 6 to 10 minutes on two cores, and longer the first time, with some 5 GB of disk in Go's and npm's caches."
	@./.ci/dependencies
	@rm -rf $(KEPT)
	@$(SAY) "compiling what runs the tests" $(GO) build -v -o bin/ ./internal/canary/gotest ./internal/canary/search
# With what the race detector's tests are made of anyway: a second build of all packages is
# minutes on a slow machine. The benchmark's tests are made without it.
	@$(SAY) "vet" $(GO) vet -race ./... ./example/... ./test/...
	@$(SAY) "vet of the benchmark" $(GO) vet ./bench/...
	@$(SAY) "compiling with the race detector" $(GO) build -race ./... ./example/...
# The nodes whose output is searched for secrets are those of the faults, in make check.
# Most tests wait for something, so that more of them run at once than there are cores.
	@$(MAKE) --no-print-directory -j 5 test-parts test-example test-library test-javascript test-bench
	@echo "== what all of them wrote is searched for secrets" && bin/search -without node $(KEPT)

# -p is how many packages run at once, and -parallel how many of the tests in each that
# say t.Parallel. The target test has vetted all of it, with every analyzer.
test-library:
	@echo "== test: library" && $(GOTEST) -vet off -count 1 -race -p 3 -parallel 4 -timeout 30m ./...

# Each of the board's tests in a browser has a Chromium of its own: some 300 MB.
test-example:
	@cd example && echo "== test: example" && $(GOTEST) -vet off -count 1 -race -p 2 -parallel 3 -timeout 30m ./...

test-javascript:
	@$(SAY) "the browser client" ./.ci/javascript

# Not under the race detector, which makes minutes of it: the library's own tests are.
test-bench:
	@cd bench && echo "== test: bench" && $(GOTEST) -vet off -count 1 -timeout 30m ./...

# TheModelCatches is a part of make check, as the faults are. The two packages that take
# longest are the first by name.
test-parts:
	@cd test && echo "== test: test" && $(GOTEST) -hang 2m -vet off -count 1 -race -p 3 -parallel 4 -timeout 30m -skip '^TestTheModelCatches' $$($(GO) list ./... | grep -v /faults$$)

check: ## what make test leaves out: 120,000 random schedules, deliberate bugs in the engine, fuzzing, 200 killed writers, and the faults, each briefly; 15 minutes
	@./.ci/dependencies
	@rm -rf $(KEPT)
	@$(SAY) "compiling what runs the tests" $(GO) build -v -o bin/ ./internal/canary/gotest ./internal/canary/search
	@$(SAY) "the promises under 100,000 random schedules" $(GO) test -count 1 -timeout 30m -run 'Promises' -skip Topics ./bridge -rapid.checks=50000
	@$(SAY) "the promises of topics under 20,000 random schedules" $(GO) test -count 1 -timeout 30m -run PromisesOfTopics ./bridge -rapid.checks=10000
	@cd test && echo "== deliberate bugs in the engine" && $(GOTEST) -hang 10m -count 1 -timeout 30m -run '^TestTheModelCatches' .
	@$(SAY) "fuzzing, briefly" ./.ci/fuzz 10000x
	@cd test && echo "== killed writers and a million keys" && $(GOTEST) -hang 10m -count 1 -race -timeout 30m -run '^(TestAWriterIsKilledBetweenCommitAndAnnouncement|TestVeryManyKeysInOneCall)$$' . -full
	@cd test && echo "== the faults, briefly" && $(GOTEST) -hang 2m -count 1 -race -timeout 30m ./faults
	@echo "== what all of them wrote is searched for secrets" && bin/search -only node,database-pg $(KEPT)

check-all: ## make check, and what takes hours: the README's commands on a bare machine, the browser client in Vite and Next.js, every fault at its full size
	@./.ci/check

faults: ## every fault at its full size, some half an hour; SEED=n repeats a run
	@./.ci/dependencies
	@cd test && $(GO) test -count 1 -timeout 60m -v ./faults -faults.full -faults.seed=$${SEED:-0}

bench: ## Entity Sync beside a bare loop and others, one table: most of an hour; FLAGS="-h" lists its flags
	@./.ci/dependencies
	@$(GO) build -buildvcs=auto -o bin/bench ./bench && exec bin/bench $(FLAGS)

bench-quick: ## the same with less of everything, once, in minutes: for a look, not for a claim
	@./.ci/dependencies
	@$(GO) build -buildvcs=auto -o bin/bench ./bench && exec bin/bench -quick -runs 1 $(FLAGS)

microbench: ## the benchmarks beside the code, ready for benchstat; FLAGS="-count 10" is handed to go test
	@$(GO) test -run '^$$' -bench . -benchmem $(FLAGS) $$(git grep -l '^func Benchmark' -- '*_test.go' | xargs -n 1 dirname | sort -u | sed 's,^,./,')

stress: ## the tests of PKG=./bridge 500 times, its suite 20 times, beside a busy loop; FLAGS="-runs 50 -suites 2 -for 10m"
	@$(GO) run ./internal/stress $(FLAGS) $(PKG)

fuzz: ## each fuzz target for FUZZTIME (10s, or a number of inputs: 100000x)
	@./.ci/fuzz $${FUZZTIME:-10s}

screenshot: ## make docs/board.png anew
	@cd example && BOARD_SCREENSHOT=$(CURDIR)/docs/board.png $(GO) test -count 1 -run TestScreenshot ./board

lint: ## golangci-lint over every module
	@failed=0; for m in $(MODULES); do (cd $$m && echo "== lint: $$m" && $(GO) run $(LINT) run --config $(CURDIR)/.golangci.yaml ./...) || failed=1; done; exit $$failed

fmt: ## gofmt everything
	@gofmt -w $$(git ls-files '*.go')
