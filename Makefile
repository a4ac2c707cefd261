# make demo    build, mount the small image in testdata, look at it, unmount
# make test    every test, with real mounts and a real registry
# make ci      what .ci/run runs: lint, test, race, a short run of every fuzz target
#
# Everything works as root or as a user with sudo; what is missing is installed, and said.

GO       ?= go
FUZZTIME ?= 10s
TIMEOUT  ?= 5m
LINT      = $(GO) tool -modfile=$(CURDIR)/tools/go.mod golangci-lint

# The commands that tests run, and the Debian packages that have them.
NEEDS = fusermount3:fuse3 jq:jq python3:python3 getfattr:attr curl:curl

.PHONY: build demo test race lint fmt fuzz bench ci clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=auto -o bin/distfs ./cmd/distfs

demo: build
	scripts/demo.sh

test:
	scripts/need.sh $(NEEDS)
	$(GO) test -timeout $(TIMEOUT) ./...
	cd e2e && $(GO) test -timeout $(TIMEOUT) ./...

race:
	scripts/need.sh $(NEEDS) gcc:gcc
	CGO_ENABLED=1 $(GO) test -race -timeout $(TIMEOUT) ./...

lint:
	$(LINT) run ./...
	cd e2e && $(LINT) run --config ../.golangci.yml ./...

fmt:
	$(LINT) fmt ./...
	cd e2e && $(LINT) fmt --config ../.golangci.yml ./...

fuzz:
	FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

bench: build
	$(GO) test -run '^$$' -bench . -benchmem ./...

ci: lint test race fuzz

clean:
	rm -rf bin dist
