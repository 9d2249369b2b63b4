# Few targets, each one line to remember: make demo, make test. All of them: make help.
CARGO ?= cargo
PREFIX ?= /usr/local

.PHONY: build demo test help install uninstall check pages bench soak fuzz cross cross-all cross-test dist clean

build:            ## the release binary: target/release/nodepass
	scripts/setup.sh build
	$(CARGO) build --release

demo:             ## a target, a server, a client, and a request through them
	scripts/setup.sh demo
	$(CARGO) build --profile demo --no-default-features --bin nodepass --example demo
	$(CARGO) run --quiet --profile demo --no-default-features --example demo

test:             ## all tests, on real sockets and processes
	scripts/setup.sh test
	CARGO="$(CARGO)" scripts/test.sh

help:             ## this list
	@sed -n 's/^\([a-z-]*\):  *## /  make \1|/p' Makefile | awk -F '|' '{ printf "%-20s %s\n", $$1, $$2 }'

install:          ## what make build made, with manual page, completions and units, to PREFIX (/usr/local) below DESTDIR
	DESTDIR="$(DESTDIR)" scripts/install.sh --prefix "$(PREFIX)"

uninstall:        ## takes away what make install brought; configuration and state stay
	DESTDIR="$(DESTDIR)" scripts/install.sh --prefix "$(PREFIX)" --remove

check:            ## format, lints, docs, layers, no async: warnings are errors
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --no-default-features -- -D warnings
	cd tests/bench && $(CARGO) fmt --check && $(CARGO) clippy -- -D warnings
	cd tests/soak && $(CARGO) fmt --check && $(CARGO) clippy --target-dir ../../target/soak -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --document-private-items
	scripts/layers.sh
	scripts/no-async.sh

pages:            ## completions, manual page, LuCI's texts and so on, from the tables of the program
	NODEPASS_WRITE_PAGES=1 $(CARGO) test --lib config::pages
	cross/luci-app-nodepass/po.py

bench:            ## side by side with other programs; results into docs/benchmarks.md
	scripts/bench.sh

soak:             ## ten minutes of users and faults of every kind
	scripts/soak.sh 0.17

fuzz:             ## each fuzz target for a minute (needs cargo-fuzz)
	scripts/fuzz.sh

cross:            ## static musl binaries, full and lite, for TARGET= (a name of cross/targets) into target/cross
	scripts/setup.sh dist
	cross/build.sh $(TARGET)

cross-all:        ## the same for every target
	scripts/setup.sh dist
	cross/build.sh all

cross-test:       ## a binary of target/cross in real tunnels, under an emulator: make cross-test BINARY=armv7-lite
	scripts/cross-test.sh $(BINARY)

dist:             ## archives, packages, sums and a list of contents for TARGET= (all of cross/targets) into target/dist
	scripts/setup.sh dist
	cross/build.sh $(or $(TARGET),all)
	cross/dist.sh $(or $(TARGET),all)

clean:            ## takes away all that was built
	$(CARGO) clean
