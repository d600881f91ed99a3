# sipward: every target with a line of help is listed by `make help`.
.DEFAULT_GOAL := help

GO      ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -X main.version=$(VERSION)
# Each fuzz target runs this long; CI and `make test` only replay their corpora.
FUZZTIME ?= 20s
PKGS     := $(shell $(GO) list ./... 2>/dev/null | grep -v '/e2e')

.PHONY: help run build test unit e2e check fmt lint vuln bench bench-peer bench-kernel bench-dns bench-report pgo fuzz setup clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## see what sipward does: an embedded PBX, sipward in front of it, a scripted round, the dashboard (needs only Go)
	bin/sipward demo

build: ## build bin/sipward
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/sipward ./cmd/sipward

test: setup vet unit e2e ## everything that must pass: vet, unit tests, then the end-to-end tests with real peers

unit: ## unit tests, with the race detector
	@GO=$(GO) ./e2e/test.sh test -race -shuffle=on $(PKGS)

e2e: ## end-to-end tests in network namespaces (root; see `make setup`)
	@GO=$(GO) ./e2e/test.sh test -count=1 -timeout 15m ./e2e/...

setup: ## install what the tests need: SIPp, Kamailio, Asterisk, Chromium … (apt, as root; says what it skips)
	./e2e/setup.sh

check: fmt vet lint vuln unit ## format, vet, staticcheck, govulncheck, unit tests

fmt:
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "not formatted: $$out"; exit 1; }

vet: ## go vet
	$(GO) vet ./...

lint: ## staticcheck
	$(GO) tool staticcheck ./...

vuln: ## govulncheck, where its database can be reached
	@$(GO) tool govulncheck ./... || { test $$? -eq 3 && exit 1; echo "govulncheck: no database in reach, skipped"; }

bench: ## benchmarks of the hot functions, with their allocations
	$(GO) test -run '^$$' -bench . -benchmem $(PKGS)

bench-peer: ## sipward beside Kamailio and a bare forwarder: loss-free rate and CPU per message (about 10 minutes)
	$(GO) run ./e2e/bench

bench-kernel: ## the mirror of bans in the kernel: latency, loading, floods, drop rate (root; about 5 minutes)
	@for what in "TestLoad|TestLatency ./listsync/kernel" "TestKernelBench ./e2e"; do \
	  out=$$(KERNEL_BENCH=1 $(GO) test -count=1 -v -run $$what 2>&1); code=$$?; \
	  echo "$$out" | grep -E 'bench_test.go|^(ok|FAIL|---)'; test $$code -eq 0 || exit $$code; \
	done

bench-dns: ## the DNS front beside dnsmasq, by dnsperf (root; about 1 minute)
	DNS_BENCH=1 $(GO) test -count=1 -v -timeout 5m -run '^TestDNSBench$$' ./e2e

bench-report: ## the journal: questions about a million rows, 20,000 events a second for a minute (about 2 minutes)
	REPORT_BENCH=1 $(GO) test -count=1 -v -run 'TestMillionRows|TestPacketPathDoesNotWait' -bench . -benchmem ./report

pgo: ## record anew what the compiler is told of the packet path (cmd/sipward/default.pgo; quiet machine)
	@d=$$(mktemp -d) && trap 'rm -rf "$$d"' EXIT && \
	$(GO) test -trimpath -run '^$$' -bench '^Benchmark(Request|Response|Invite|Transaction)$$' -benchtime 6s -cpuprofile $$d/proxy.prof -o $$d/sipward ./proxy && \
	$(GO) test -trimpath -run '^$$' -bench 'DecideAndObserve/' -benchtime 1s -cpuprofile $$d/policy.prof -o $$d/sipward ./policy && \
	cd $$d && $(GO) tool pprof -proto proxy.prof policy.prof > default.pgo && mv default.pgo $(CURDIR)/cmd/sipward/default.pgo

fuzz: ## run each fuzz target for FUZZTIME
	@for p in $(PKGS); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; \
	  done; done

clean: ## remove what was built
	rm -rf bin
