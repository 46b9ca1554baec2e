# Every target works in a fresh clone on a Debian machine with Rust; `make deps` installs the rest.

HOST    := $(shell uname -m)
# x86_64 or aarch64: `make build ARCH=aarch64` builds for the other one.
ARCH    := $(HOST)
MUSL    := $(ARCH)-unknown-linux-musl
TARGET  := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
RELEASE := $(TARGET)/$(MUSL)/release
CARGO_HOME ?= $(HOME)/.cargo
# Shipped programs name no path of the machine that built them: two builds of one commit are the same bytes wherever they are made.
# With --target the flags reach no build script.
ANONYMOUS := RUSTFLAGS="--remap-path-prefix=$(CURDIR)=/meta-cni --remap-path-prefix=$(CARGO_HOME)=/cargo" \
	CFLAGS="-ffile-prefix-map=$(CURDIR)=/meta-cni -ffile-prefix-map=$(CARGO_HOME)=/cargo"

# For another architecture: a compiler for the C and the assembly of one dependency (ring), and the linker that comes with Rust; musl's own parts
# come with the target.
upper = $(shell echo $(1) | tr a-z A-Z)
CROSS := $(if $(filter $(HOST),$(ARCH)),,CC_$(ARCH)_unknown_linux_musl=$(ARCH)-linux-gnu-gcc \
	CARGO_TARGET_$(call upper,$(ARCH))_UNKNOWN_LINUX_MUSL_LINKER=rust-lld)

# A call of the plugin ends with its first panic, so the plugin carries nothing that unwinds: an eighth less to ship and to map.
ABORT  := CARGO_PROFILE_RELEASE_PANIC=abort
PLUGIN := $(ABORT) cargo build --locked --release --target $(MUSL) --no-default-features -p meta-cni
# What runs for weeks need not be as small as the plugin, and three programs take minutes to optimise as one piece each.
PROGRAMS := CARGO_PROFILE_RELEASE_LTO=thin cargo build --locked --release --target $(MUSL) -p meta-cni-agent -p meta-cni-ctl -p meta-cni-webhook

.PHONY: build image image-all sbom test test-operate test-neighbours soak demo bench bench-overlay bench-cluster bench-webhook cluster cluster-down lint deny reproducible deps clean

# The programs as they are shipped: static, in target/<arch>-unknown-linux-musl/release. The plugin is built by itself: beside the
# agent, its dependencies would be compiled with the features that only a client of the API server needs.
build: deps
	$(ANONYMOUS) $(CROSS) $(PLUGIN)
	$(ANONYMOUS) $(CROSS) $(PROGRAMS)

# The image of DaemonSet and webhook, as an OCI archive: dist/meta-cni.tar. IMAGE gives it another name.
image: build
	@tests/prepare buildah
	deploy/image $(RELEASE) dist/meta-cni.tar

FOREIGN := $(if $(filter x86_64,$(HOST)),\
	aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu /usr/aarch64-linux-gnu/include/stdint.h:libc6-dev-arm64-cross,\
	x86_64-linux-gnu-gcc:gcc-x86-64-linux-gnu /usr/x86_64-linux-gnu/include/stdint.h:libc6-dev-amd64-cross)

# The images of both architectures, cross-built: dist/meta-cni-amd64.tar and dist/meta-cni-arm64.tar.
image-all:
	@tests/prepare buildah $(FOREIGN)
	rustup target add x86_64-unknown-linux-musl aarch64-unknown-linux-musl
	$(MAKE) --no-print-directory build ARCH=x86_64
	deploy/image $(TARGET)/x86_64-unknown-linux-musl/release dist/meta-cni-amd64.tar amd64
	$(MAKE) --no-print-directory build ARCH=aarch64
	deploy/image $(TARGET)/aarch64-unknown-linux-musl/release dist/meta-cni-arm64.tar arm64

# What the programs of the image are made of, from Cargo.lock: dist/meta-cni.cdx.json, CycloneDX 1.6.
sbom: deps
	@tests/prepare jq
	deploy/sbom dist/meta-cni.cdx.json

# All tiers, or some: make test TIERS="unit conformance". META_CNI_SKIP names tiers that this machine cannot run.
test: deps
	tests/run $(TIERS)

# What needs programs that `make test` does without: a browser, promtool, helm, kubeconform.
test-operate: deps
	tests/browser
	tests/operate/alerts
	tests/operate/chart

# Beside real products, as their users install them: flannel, kube-router, Cilium, Whereabouts and others. They are built once, which takes
# some twenty minutes. NEIGHBOUR=flannel for the cases of one. UPDATE_GOLDEN=1 writes what the cases have seen into docs/compatibility.md;
# without it a case that sees something else fails.
test-neighbours: image
	@tests/prepare ipset /usr/bin/clang-19:clang-19 $(addprefix /usr/lib/$(HOST)-linux-gnu/,\
		libunbound.so.8:libunbound8 libnuma.so.1:libnuma1 libbpf.so.1:libbpf1 libcap-ng.so.0:libcap-ng0)
	tests/cluster/build >/dev/null
	tests/peers/build >/dev/null
	tests/neighbours/build flannel kube-router whereabouts cilium coredns firewall >/dev/null
	tests/operate/build helm >/dev/null
	cargo build --locked --workspace --all-features --bins
	cargo test --locked --workspace --all-features --test neighbours -- --test-threads 1 $(NEIGHBOUR)

# A node for a long time and under fire, some 45 minutes: thousands of pods, storms, programs that are killed. SOAK_SECONDS is for
# random sequences of calls, on each kernel.
SOAK_SECONDS ?= 180
soak: deps
	tests/cluster/build etcd kube-apiserver kubectl
	cargo build --locked --workspace --all-features --bins
	cargo test --locked --workspace --all-features --test control-plane -- --ignored --nocapture --test-threads 1 soak::
	META_CNI_SECONDS=$(SOAK_SECONDS) tests/run property

# Two nodes, two pods, four networks, from the manifests in examples/. Plugin and demo in one build, so that what they share is
# compiled once, and nothing that neither needs.
demo: deps
	$(ANONYMOUS) $(ABORT) cargo build --locked --release --target $(MUSL) --no-default-features -p meta-cni -p meta-cni-tests --bin meta-cni --bin demo
	tests/demo $(abspath $(RELEASE))/demo

# Whole processes: ours beside the reference plugins and Multus. Results also in $(TARGET)/bench.json. BENCH="--pods 300" for
# more, BENCH="--docs ." also writes the tables into the documentation (docs/performance.md); META_CNI_BASELINE=FILE measures
# another build of the plugin in the same run.
bench: deps
	tests/peers/build
	$(ANONYMOUS) $(ABORT) cargo build --locked --release --target $(MUSL) --no-default-features -p meta-cni-tests --bin bench --bin floor
	$(ANONYMOUS) $(PLUGIN)
	$(RELEASE)/bench --json $(TARGET)/bench.json $(BENCH)

# What an overlay carries beside a vxlan that is made by hand, in one run: throughput and round trip. As root; iperf3 is installed.
bench-overlay: deps
	@tests/prepare iperf3
	$(ANONYMOUS) $(PLUGIN)
	cargo build --locked --workspace --all-features --bin bench-overlay
	META_CNI_BIN=$(abspath $(RELEASE))/meta-cni $(TARGET)/debug/bench-overlay --json $(TARGET)/bench-overlay.json $(BENCH)

# Kubernetes on three nodes, in namespaces of this machine; what it prints is for your shell. NODES=5 for more.
cluster: deps
	@tests/cluster/build >/dev/null
	@cargo build --locked --workspace --all-features --bin cluster
	@$(TARGET)/debug/cluster up $(NODES)

# What containerd measures of its CNI plugin on three nodes: the reference bridge alone, Multus thick, and meta-cni. Also as JSON.
# QUIET=10 waits 10 s before each measurement instead of 65, and so counts kubelet's repeats of DEL in.
bench-cluster: image
	tests/cluster/build >/dev/null
	cargo build --locked --workspace --all-features --bins
	$(TARGET)/debug/bench-cluster dist/meta-cni.tar $(TARGET)/bench-cluster.json $(QUIET)

# The shipped webhook beside a real API server with 1,000 definitions and 5,000 pods: start, memory, latency at 500 reviews a second, and
# a burst. Also as JSON. BENCH="--docs ." also writes the table into docs/performance.md.
bench-webhook: deps
	tests/cluster/build >/dev/null
	$(ANONYMOUS) $(PROGRAMS)
	cargo build --locked --workspace --all-features --bins
	$(TARGET)/debug/bench-webhook $(RELEASE)/meta-cni-webhook --json $(TARGET)/bench-webhook.json $(BENCH)

# Takes it down again, or what is left of it.
cluster-down:
	@cargo build --locked --workspace --all-features --bin cluster
	@$(TARGET)/debug/cluster down

# Bans, licences, sources and, where they can be reached, advisories of all dependencies: builds cargo-deny once.
deny:
	tests/deny

# The programs of this commit built twice, in two places: the same bytes?
reproducible: deps
	tests/reproducible

lint: deps
	tests/run lint

deps:
	@tests/prepare

clean:
	cargo clean
