# `make` lists the targets.

GO ?= go
export CGO_ENABLED = 0

.PHONY: help build check test conformance bench deps demo lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## compile bin/strata
	$(GO) build -trimpath -ldflags '-s -w' -o bin/strata ./cmd/strata

check: ## the fast tests: no root, no network, under a minute
	$(GO) vet ./...
	STRATA_TEST=fast $(GO) test ./...

test: deps build ## all tests, with the programs they need installed
	$(GO) vet ./...
	STRATA_TEST=full $(GO) test -timeout 60m ./...

conformance: deps build ## build and refuse Dockerfiles as buildkitd does, compared in one run
	STRATA_TEST=full $(GO) test -count=1 -timeout 30m ./conformance

bench: deps build ## compare with buildkitd, buildah and podman, as ratios; BENCH='-rows pull' for a part
	scripts/bench $(BENCH)

deps: ## install what the full tests need (Debian packages)
	scripts/install-test-deps

demo: build ## build examples/hello and run it
	scripts/demo

lint: ## golangci-lint, where it is installed
	golangci-lint run

clean: ## remove what this Makefile made
	rm -rf bin .cache/peers .cache/conformance
