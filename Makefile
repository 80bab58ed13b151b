# Everything that one does with a checkout. `make demo` and `make test` set up what they need.

CARGO ?= cargo
PROGRAMS := target/programs
NINERING := target/release/ninering
wasip1 = scripts/wasm-cargo wasm32-wasip1 --release --target-dir target/wasi

.PHONY: help setup build programs demo test lint conformance recovery bench bench-sandbox bench-ring bench-link bench-server fuzz clean

help:
	@echo "make demo    build everything and run a program on a filesystem of its own"
	@echo "make test    all tests"
	@echo "make conformance   well-known suites through Linux's 9P client, all of each (as root; make test has a selection)"
	@echo "make recovery   some of them on a relay, behind which the server is killed and started again all the time (as root)"
	@echo "make lint    formatting, clippy, documentation, systemd's units, names in tests/CHECKLIST.md"
	@echo "make bench   the table of ratios in README.md"
	@echo "make bench-sandbox   what the sandbox costs: the client as a component, and compiled natively"
	@echo "make bench-link   over a long and narrow link: speed, and round trips beside Linux's client (as root)"
	@echo "make bench-ring   how often the two sides of a ring notify each other, with event index and without"
	@echo "make bench-server   the server beside diod, unpfs and what the machine allows (needs a tmpfs on /dev/shm)"
	@echo "make fuzz    a minute each of fuzzing of the wire format, of whole sessions of server and client, and of the ring (needs a nightly toolchain and cargo-fuzz)"

setup:
	@scripts/setup

build: setup
	$(CARGO) build --release -p ninering

# The WASI programs that the demo, the tests and the benchmark run.
programs: setup
	$(wasip1) -p index -p fsprobe -p fsbench
	scripts/wasm-cargo wasm32-unknown-unknown --profile component --target-dir target/components -p hostile-client -p ninering-iter
	@mkdir -p $(PROGRAMS)
	@cp target/components/wasm32-unknown-unknown/component/hostile_client.wasm \
	  target/components/wasm32-unknown-unknown/component/ninering_iter.wasm $(PROGRAMS)/
	@cp target/wasi/wasm32-wasip1/release/index.wasm target/wasi/wasm32-wasip1/release/fsprobe.wasm \
	  target/wasi/wasm32-wasip1/release/fsbench.wasm $(PROGRAMS)/
	scripts/wasi-cc -O2 tests/programs/cfs.c -o $(PROGRAMS)/cfs.wasm

demo: build programs
	@examples/demo

test: programs
	@scripts/setup --test
	$(CARGO) test -p ninering-wire -p ninering-iter -p ninering-client
	$(CARGO) build --release -p ninering -p fsprobe
	$(CARGO) test --release -p ninering -p ninering-ordering -p ninering-hostile -p ninering-hostile-server -p ninering-tests -p index -p fsprobe

# A server alone serves as well, and is built in a minute.
conformance:
	@scripts/setup --conformance
	$(CARGO) build --release -p ninering --no-default-features --features cli --target-dir target/server
	$(CARGO) build --release -p fsprobe --target-dir target/server
	tests/conformance/run --server target/server/release/ninering $(SUITES)

recovery: setup
	@scripts/setup --conformance
	$(CARGO) build --release -p ninering -p ninering-tests -p fsprobe
	tests/conformance/run --killed $(SUITES)

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps
	scripts/check-units
	scripts/check-checklist

bench: programs
	$(CARGO) build --release -p fsbench -p ninering-bench
	target/release/ninering-bench --wasm $(PROGRAMS)/fsbench.wasm --native target/release/fsbench --rounds 9

bench-sandbox: setup
	$(CARGO) build --release -p ninering-bench
	target/release/sandbox-tax mem:

# Over a link of 6 ms and 1 Gbit/s; the part about Linux's client as root.
bench-link: programs
	$(CARGO) build --release -p ninering -p ninering-slow-link
	tests/slow-link/bench

bench-ring: setup
	$(CARGO) build --release -p ninering-bench
	target/release/ring-counts

# unpfs is built here, diod is Debian's; whichever is missing is left out of the table.
bench-server:
	$(CARGO) build --release -p ninering --no-default-features --features cli
	$(CARGO) build --release -p ninering-bench-server
	$(CARGO) install --quiet unpfs --root target/peers || echo "unpfs cannot be built here"
	target/release/ninering-bench-server
	target/release/ninering-bench-server --growth

# With `socket`, threads are started and ended all the time: what they have at that moment would be taken for leaks.
fuzz:
	cd tests/fuzz && for target in decode mem dir socket client ring; do mkdir -p corpus/$$target && \
	  ASAN_OPTIONS=detect_leaks=$$(test $$target = socket; echo $$?) $(CARGO) +nightly fuzz run --fuzz-dir . $$target \
	    corpus/$$target seeds/$$target -- -max_total_time=60 || exit 1; done

clean:
	$(CARGO) clean
