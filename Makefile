# make demo    build, mount the small image in testdata, look at it, unmount
# make test    every test, with real mounts and a real registry
# make ci      .ci/run: demo, test, lint, race, a short run of every fuzz target
# make soak    uses a mount for half an hour and sees that it does not grow; SOAK=5m makes it shorter
# make bench   Go's benchmarks, and a table that compares with other tools
#
# Everything works as root or as a user with sudo; what is missing is installed, and said.

GO       ?= go
FUZZTIME ?= 10s
TIMEOUT  ?= 40m
SOAK     ?= 30m
LINT      = $(GO) tool -modfile=$(CURDIR)/tools/go.mod golangci-lint

# The commands that tests run, and the Debian packages that have them.
NEEDS = fusermount3:fuse3 jq:jq python3:python3 getfattr:attr curl:curl umoci:umoci skopeo:skopeo automount:autofs mmdebstrap:mmdebstrap

.PHONY: build demo test race lint fmt fuzz soak bench ci clean

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
	cd e2e && CGO_ENABLED=1 $(GO) test -race -timeout $(TIMEOUT) .

lint:
	$(LINT) run ./...
	cd e2e && $(LINT) run --config ../.golangci.yml ./...

fmt:
	$(LINT) fmt ./...
	cd e2e && $(LINT) fmt --config ../.golangci.yml ./...

fuzz:
	FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

soak:
	scripts/need.sh $(NEEDS)
	cd e2e && $(GO) test -timeout 0 -run '^TestSoak$$' -soak $(SOAK) -v .

# e2e/bench prints the table of docs/benchmarks.md; BENCH="-n 3 -size 268435456" makes it shorter.
bench:
	scripts/need.sh $(NEEDS)
	$(GO) test -run '^$$' -bench . -benchmem ./...
	cd e2e && $(GO) run ./bench $(BENCH)

ci:
	.ci/run

clean:
	rm -rf bin dist
