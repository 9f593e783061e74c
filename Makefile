# Tandem. `make run` starts it, `make test` tests everything; `make help` lists the rest.

GOFUMPT     := go tool -modfile=tools/gofumpt/go.mod gofumpt
STATICCHECK := go tool -modfile=tools/staticcheck/go.mod staticcheck
GO_FILES     = $(shell find . \( -name node_modules -o -path ./data \) -prune -o -name '*.go' -print)

.DEFAULT_GOAL := help
.PHONY: run test bench prove mutants promises build web api fmt lint clean help

run: ## install what is missing, build, and start Tandem with demo data (DATA=dir; default data)
	@DATA="$(DATA)" exec scripts/run

test: ## everything: formatting, vet, staticcheck, Go tests with the race detector, web tests, end-to-end test
	@exec scripts/test

bench: ## speed and size against the limits of this machine (QUICK=1: under two minutes; JSON=file)
	@go run ./tools/bench all $(if $(QUICK),--quick) $(if $(JSON),--json=$(JSON))

prove: ## every promise at its full size, one table (SEED=number, ONLY=REL-1,CLM-3; some of it needs root)
	@exec scripts/prove prove $(if $(SEED),-seed=$(SEED)) $(if $(ONLY),-only=$(ONLY))

mutants: ## deliberate defects, each of which the tests must see (ONLY=name,name)
	@exec scripts/prove mutants $(if $(ONLY),-only=$(ONLY))

promises: ## the figures of the last make prove into docs/promises.md
	@exec scripts/prove promises

build: ## bin/tandem with the web app inside
	@exec scripts/build

web: ## the web app and the chat widget into web/dist
	@exec scripts/web build

api: ## api/openapi.json, the table of who may do what, and the web app's client, written anew from the routes
	@go test ./api -run '^(TestOpenAPIFile|TestRolesAndRoutes)$$' -count=1 -update
	@scripts/web install
	@cd web && npm run --silent gen:api

fmt: ## format Go and web sources
	@$(GOFUMPT) -w $(GO_FILES)
	@scripts/web install
	@cd web && npm run --silent fix

lint: ## formatting, vet, staticcheck and the web app's checks
	@unformatted=$$($(GOFUMPT) -l $(GO_FILES)) && test -z "$$unformatted" || { echo "run make fmt for: $$unformatted"; exit 1; }
	@go vet ./...
	@$(STATICCHECK) ./...
	@scripts/web install
	@cd web && npm run --silent check && npm run --silent lint:api && npm run --silent check:api

clean: ## remove what was built; data/ stays
	@rm -rf bin web/node_modules
	@find web/dist -mindepth 1 ! -name .gitkeep -delete

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile
