# Everything a contributor runs. Go alone is enough: tools are installed, pinned, into .build/bin.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .build/bin
VERSION ?= 3.0.0
COMMIT ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)
DATE ?= $(shell date -u +%Y-%m-%dT%H:%M:%SZ)
BUILD := erlmcp.dev/cmd/erlmcp/internal/build
LDFLAGS := -s -w -X $(BUILD).Version=$(VERSION) -X $(BUILD).Commit=$(COMMIT) -X $(BUILD).Date=$(DATE)

# All packages of all modules in go.work.
ALL = $(shell go list -m -f '{{.Path}}/...')
# All modules' directories, from here.
DIRS = $(shell go list -m -f '{{.Dir}}' | sed "s|^$(CURDIR)/||")
# The race detector needs a C compiler; go env tells whether there is one. Results are not taken from the cache (-count=1)
# where tests start the program, whose changes it does not see.
RACE = $(if $(filter 1,$(shell go env CGO_ENABLED)),-race,)

FUZZTIME ?= 10s
BENCH ?= .
ARGS ?=

##@ Everyday

.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "; printf "make TARGET\n"} \
	  /^##@ / {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: build ## Run everything in one process (ARGS="--port 0 ...")
	$(BIN)/erlmcp up $(ARGS)

.PHONY: build
build: ## Build the program into .build/bin/erlmcp
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/erlmcp ./cmd/erlmcp

.PHONY: test
test: ## Test all modules, with the race detector (starts its own Redis and Postgres)
	go test $(RACE) -count=1 -timeout 20m $(ALL)

##@ Before a commit

.PHONY: generate
generate: protodeps $(addprefix $(BIN)/.,buf protoc-gen-go protoc-gen-go-grpc protoc-gen-grpc-gateway protoc-gen-openapiv2) ## Generate Go and OpenAPI from the protos, and the configuration's documentation
	$(BIN)/buf generate
	$(BIN)/buf generate --template examples/buf.gen.yaml
	$(BIN)/buf build --path examples/orderdesk --exclude-imports -o examples/orderdesk/v1/orderdesk.binpb
	go run ./cmd/erlmcp config docs > .build/configuration.md
	cp .build/configuration.md docs/configuration.md

.PHONY: generate-check
generate-check: protodeps $(addprefix $(BIN)/.,buf protoc-gen-go protoc-gen-go-grpc protoc-gen-grpc-gateway protoc-gen-openapiv2) ## Fail when generated files are stale
	@rm -rf .build/fresh && mkdir -p .build/fresh/docs
	@$(BIN)/buf generate -o .build/fresh
	@$(BIN)/buf generate --template examples/buf.gen.yaml -o .build/fresh
	@mkdir -p .build/fresh/examples/orderdesk/v1
	@$(BIN)/buf build --path examples/orderdesk --exclude-imports -o .build/fresh/examples/orderdesk/v1/orderdesk.binpb
	@go run ./cmd/erlmcp config docs > .build/fresh/docs/configuration.md
	@generated() { find proto examples docs/configuration.md -type f \( -name '*.pb.go' -o -name '*.binpb' -o -name '*.pb.gw.go' -o -name '*.swagger.json' -o -name configuration.md \) | sort; }; \
	stale=; diff <(generated) <(cd .build/fresh && generated) || stale=1; \
	for f in $$(generated); do cmp "$$f" ".build/fresh/$$f" || stale=1; done; \
	[ -z "$$stale" ] || { echo "generated files are stale: run make generate"; exit 1; }
	@echo "generated files are fresh"

.PHONY: lint
lint: lint-go lint-proto lint-scripts ## Check style, layering, protos and scripts

.PHONY: lint-go
lint-go: $(BIN)/.golangci-lint
	@test -z "$$(gofmt -l $(DIRS))" || { gofmt -l $(DIRS); echo "not formatted: run make fmt"; exit 1; }
	@for d in $(DIRS); do (cd "$$d" && go mod tidy -diff) || { echo "$$d/go.mod is not tidy: run make tidy"; exit 1; }; done
	go vet $(ALL)
	$(BIN)/golangci-lint run $(addsuffix /...,$(addprefix ./,$(DIRS)))

# Protos are compared with those of BASE: where this branch left main, or on main the commit before.
BASE ?= $(shell b=$$(git merge-base HEAD main 2>/dev/null); if [ "$$b" = "$$(git rev-parse HEAD 2>/dev/null)" ]; then git rev-parse -q --verify HEAD~1; else echo "$$b"; fi)

.PHONY: lint-proto
lint-proto: protodeps $(BIN)/.buf
	$(BIN)/buf lint
	$(BIN)/buf format -d --exit-code proto
	@rm -rf .build/base && mkdir -p .build/base/.build
	@if [ -n "$(BASE)" ] && git cat-file -e "$(BASE):proto/erlmcp" 2>/dev/null; then \
	  git archive "$(BASE)" proto examples buf.yaml | tar -x -C .build/base && cp -R .build/protodeps .build/base/.build/ && \
	  echo "$(BIN)/buf breaking --against $(BASE)" && $(BIN)/buf breaking --against .build/base; \
	else echo "no older protos to compare with"; fi

.PHONY: lint-scripts
lint-scripts:
	@scripts=$$(git ls-files -co --exclude-standard | grep -E '\.sh$$|^\.ci/run$$' || true); \
	for s in $$scripts; do if head -1 "$$s" | grep -q bash; then bash -n "$$s"; else sh -n "$$s"; fi; done; \
	if command -v shellcheck > /dev/null && [ -n "$$scripts" ]; then shellcheck $$scripts; else echo "scripts parse; shellcheck is not installed here"; fi

.PHONY: fmt
fmt: $(BIN)/.buf ## Format Go and protos
	gofmt -w $(DIRS)
	$(BIN)/buf format -w proto

.PHONY: tidy
tidy: ## Tidy all modules
	go work sync
	@for d in $(DIRS); do echo "tidy $$d"; (cd "$$d" && go mod tidy); done

##@ Gates, by the names that the deployment guide has for them (the quality lanes of compose call them)

.PHONY: compile eunit ct check benchmark
compile: build ## Compile all modules, tests too
	go test -run '^$$' -exec true $(ALL) > /dev/null
eunit: ## Unit tests: every package but those that start whole systems
	go test $(RACE) -timeout 10m $(filter-out erlmcp.dev/test/...,$(ALL))
ct: ## Integration tests: real processes, clusters, clients and deployments
	cd test && go test $(RACE) -count=1 -timeout 20m ./...
check: lint generate-check deploy-check ## Everything that is checked without running it
benchmark: microbench ## The Go benchmarks

##@ Deeper

.PHONY: vandals
vandals: ## Let 10,000 clients misbehave, and see that nothing stays behind
	ERLMCP_VANDALS=10000 go test -count=1 -v -run TestVandals ./test/transports

.PHONY: abandon
abandon: ## Open 100,000 sessions and leave them, and see that nothing stays behind
	ERLMCP_ABANDON=100000 go test -count=1 -v -timeout 30m -run TestAbandonedSessions ./test/system

.PHONY: compatibility
compatibility: ## Write docs/compatibility.md from a run of every cell
	ERLMCP_UPDATE=1 go test -count=1 -run TestEveryCell ./test/transports

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (10s)
	@found=$$(git ls-files -co --exclude-standard '*_test.go' | xargs grep -o '^func Fuzz[A-Za-z0-9_]*' | sed 's/:func /:/'); \
	for one in $$found; do \
	  echo "fuzz $$one"; (cd "$$(dirname "$${one%%:*}")" && go test -run '^$$' -fuzz "^$${one##*:}\$$" -fuzztime $(FUZZTIME) .); \
	done

# The suite waits most of the time, so what is one process and the cluster are tried side by side, each in its directory.
.PHONY: conformance conformance-process conformance-cluster
conformance: ## Run the official conformance suite, against one process and against a cluster (needs npm)
	$(MAKE) -j 2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) conformance-process conformance-cluster
conformance-process: build
	go run ./test/conformance/cmd/conformance -erlmcp $(BIN)/erlmcp -build .build/conformance
	go run ./test/conformance/cmd/conformance -erlmcp $(BIN)/erlmcp -era modern -build .build/conformance
	go run ./test/conformance/cmd/conformance -erlmcp $(BIN)/erlmcp -era legacy -promote -build .build/conformance
	go run ./test/conformance/cmd/conformance -erlmcp $(BIN)/erlmcp -promote -set "required 2026-07-28" -build .build/conformance
conformance-cluster: build
	go run ./test/conformance/cmd/conformance -erlmcp $(BIN)/erlmcp -cluster -build .build/conformance-cluster

.PHONY: chaos
CHAOS ?= 10m
chaos: ## Kill, freeze and roll every process of a cluster under load for CHAOS (10m), and print what became of the calls
	cd test && go test -count=1 -v -timeout 24h ./chaos -run TestChaos -for $(CHAOS) $(ARGS)

.PHONY: bench
bench: build ## Measure calls and lists direct, through a plain proxy and through erlmcp (ARGS="-clients 16 -rounds 4")
	go run ./test/bench/cmd/bench -erlmcp $(BIN)/erlmcp $(ARGS)
	go run ./test/bench/cmd/bench -erlmcp $(BIN)/erlmcp -sessions 10000 $(ARGS)

.PHONY: microbench
microbench: ## Run the Go benchmarks of all packages (BENCH=regexp)
	go test -run '^$$' -bench '$(BENCH)' -benchmem $(ALL)

.PHONY: clients
clients: build ## Call through erlmcp with official clients and servers in Go and TypeScript, and the Inspector (needs npm)
	cd test && ERLMCP_PROGRAM=$(CURDIR)/$(BIN)/erlmcp go test -tags npm -count=1 -v -timeout 10m ./clients

##@ Deployments

.PHONY: image
image: ## Build the image erlmcp:VERSION
	docker build --build-arg BUILD_DATE=$(DATE) --build-arg VCS_REF=$(COMMIT) --build-arg VERSION=$(VERSION) -t erlmcp:$(VERSION) -f Dockerfile .

.PHONY: deploy-test
deploy-test: ## Test image, compose and Swarm on a Docker engine (ARGS="image compose swarm")
	deploy/test/docker-test.sh $(ARGS)

.PHONY: k8s-test
k8s-test: $(BIN)/.helm ## Test chart and manifests on the cluster of KUBECONFIG (ARGS="--only helm")
	HELM=$${HELM:-$(CURDIR)/$(BIN)/helm} deploy/test/k8s-test.sh $(ARGS)

.PHONY: k8s-manifests
k8s-manifests: $(BIN)/.helm ## Write the plain manifests from the chart
	deploy/k8s/generate.sh $(BIN)/helm deploy/k8s

.PHONY: deploy-check
deploy-check: $(BIN)/.helm $(BIN)/.kubectl-validate $(BIN)/.cyclonedx-gomod ## Check chart, manifests, compose files and the image's program without running them
	deploy/test/check.sh $(BIN)

.PHONY: sbom
sbom: $(BIN)/.cyclonedx-gomod ## Write the bill of materials (CycloneDX) of the image's program to .build/erlmcp.cdx.json
	VERSION=$(VERSION) VCS_REF=$(COMMIT) deploy/docker/build.sh $(CURDIR)/.build/image/erlmcp
	$(BIN)/cyclonedx-gomod bin -json -noserial -notimestamp -std -output .build/erlmcp.cdx.json -version $(VERSION) .build/image/erlmcp

.PHONY: tools
tools: $(addprefix $(BIN)/.,buf protoc-gen-go protoc-gen-go-grpc protoc-gen-grpc-gateway protoc-gen-openapiv2 golangci-lint grpcurl) ## Install all tools into .build/bin

.PHONY: clean
clean: ## Remove what was built, tools included
	rm -rf .build

# Definitions that our protos import, printed from the Go modules that carry them.
.PHONY: protodeps
protodeps:
	@cd proto && go run ./internal/deps ../.build/protodeps

# tool NAME, MODULE, VERSION, PACKAGE: a stamp beside the program says that it is there in this version.
define tool
$(BIN)/.$(1): $(BIN)/.$(1)@$(3)
	@cp $$< $$@
$(BIN)/.$(1)@$(3):
	@mkdir -p $(BIN)
	@go version -m $(BIN)/$(1) 2>/dev/null | grep -F "$$$$(printf 'mod\t$(2)\t$(3)')" > /dev/null || \
	  { echo "install $(1) $(3)"; GOBIN=$(CURDIR)/$(BIN) GOWORK=off GOFLAGS= go install $(4)@$(3); }
	@rm -f $(BIN)/.$(1)@* && touch $$@
endef

$(eval $(call tool,buf,github.com/bufbuild/buf,v1.75.0,github.com/bufbuild/buf/cmd/buf))
$(eval $(call tool,protoc-gen-go,google.golang.org/protobuf,v1.36.12,google.golang.org/protobuf/cmd/protoc-gen-go))
$(eval $(call tool,protoc-gen-go-grpc,google.golang.org/grpc/cmd/protoc-gen-go-grpc,v1.6.2,google.golang.org/grpc/cmd/protoc-gen-go-grpc))
$(eval $(call tool,protoc-gen-grpc-gateway,github.com/grpc-ecosystem/grpc-gateway/v2,v2.33.0,github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway))
$(eval $(call tool,protoc-gen-openapiv2,github.com/grpc-ecosystem/grpc-gateway/v2,v2.33.0,github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv2))
$(eval $(call tool,golangci-lint,github.com/golangci/golangci-lint/v2,v2.15.0,github.com/golangci/golangci-lint/v2/cmd/golangci-lint))
$(eval $(call tool,grpcurl,github.com/fullstorydev/grpcurl,v1.9.4,github.com/fullstorydev/grpcurl/cmd/grpcurl))
$(eval $(call tool,helm,helm.sh/helm/v3,v3.22.0,helm.sh/helm/v3/cmd/helm))
$(eval $(call tool,kubectl-validate,sigs.k8s.io/kubectl-validate,v0.0.4,sigs.k8s.io/kubectl-validate))
$(eval $(call tool,cyclonedx-gomod,github.com/CycloneDX/cyclonedx-gomod,v1.10.0,github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod))
