# Larder. `make demo` shows it, `make test` tests it; `make help` lists the rest.
SHELL := /bin/bash
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help demo test test-fast test-sync-long test-world test-world-long mutations mutants check fmt lint docs deny generated pure tools build images smoke crd fuzz soak bench-controller bench-inference bench-reading bench-sync

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

demo: tools build ## the main job, live, on this machine; KEEP=1 leaves it running
	@exec $(TARGET)/debug/demo

test: tools build ## every test
	@set -a; eval "$$(tests/tools/setup.sh env)"; set +a; tests/tools/count.sh $(CARGO) test --workspace --locked --no-fail-fast

test-fast: ## the planner and AWS in memory: seconds, once built
	@tests/tools/count.sh $(CARGO) test --workspace --locked --no-fail-fast --lib --test properties --test 'world_*' --test generated

test-sync-long: build ## model-sync, and workers that share a copy, each killed ten thousand times at random instants
	@LARDER_KILLS=$${LARDER_KILLS:-10000} $(CARGO) test --locked -p larder-model-sync --test kills --test workers -- --nocapture

bench-sync: ## model-sync beside rclone, boto3 and the AWS CLI; ARGS=--quick for a look
	@$(CARGO) build --locked --profile bench -p larder-model-sync -p larder-bench-sync
	@python=$$(tests/benches/sync/setup.sh) && LARDER_BENCH_PYTHON=$$python \
	  LARDER_MODEL_SYNC=$(TARGET)/release/larder-model-sync $(TARGET)/release/larder-bench-sync $(ARGS)

bench-controller: tools ## the controller at 1 to 10,000 endpoints; ARGS=--quick for up to 100
	@$(CARGO) build --locked --profile bench -p larder -p larder-bench-controller
	@set -a; eval "$$(tests/tools/setup.sh env)"; set +a; \
	  LARDER=$(TARGET)/release/larder $(TARGET)/release/larder-bench-controller --dir $(TARGET)/bench $(ARGS)

test-world: ## one schedule of faults: make test-world SEED=…
	@$(CARGO) test --workspace --locked --test world_faults -- --nocapture

test-world-long: build ## a hundred thousand schedules of faults, in about an hour
	@SCHEDULES=$${SCHEDULES:-100000} $(CARGO) test --workspace --locked --test world_faults -- --nocapture

# A copy of the sources has a target folder of its own, which begins with what is built already.
define begin_target
if [[ ! -d $(1)/target ]]; then mkdir -p $(1)/target/debug; \
	    cp -al $(TARGET)/debug/deps $(1)/target/debug/; cp -a $(TARGET)/debug/{build,.fingerprint} $(1)/target/debug/; fi
endef

mutations: build ## break each rule of tests/mutations on purpose: its test must notice; ARGS=TEXT for some
	@dir=$(TARGET)/mutations; $(call begin_target,$$dir); $(TARGET)/debug/mutations $$dir $(ARGS)

mutants: build ## each change that cargo-mutants would make to the planner: does a test notice? ARGS="--only TEXT"
	@dir=$(TARGET)/mutants; $(call begin_target,$$dir); \
	  if [[ ! -e $$dir/python/.whole ]]; then python3 -m venv $$dir/python && \
	    $$dir/python/bin/pip install -q --disable-pip-version-check -r tests/mutants/requirements.txt && touch $$dir/python/.whole; fi; \
	  PATH=$$PATH:$$(tests/tools/setup.sh mutants) $$dir/python/bin/python tests/mutants/run.py $$dir $(ARGS)

check: fmt pure generated lint docs ## everything that needs no running: format, purity, generated files, lints, docs

fmt:
	@$(CARGO) fmt --all --check

# The planner must not be able to reach the network, a cluster, AWS or a runtime.
pure:
	@found=$$($(CARGO) tree --locked -p larder-core -e normal --prefix none | grep -E '^(tokio|kube-client|kube-runtime|hyper|reqwest|aws-|rand |getrandom )' || true); \
	  if [ -n "$$found" ]; then echo "larder-core depends on:"; echo "$$found"; exit 1; fi

generated:
	@$(CARGO) test --workspace --locked -q --test generated

lint:
	@$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

docs:
	@python3 tests/links.py
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

deny: ## licences, bans and sources of what we depend on
	@PATH="$$(tests/tools/setup.sh deny):$$PATH" $(CARGO) deny --workspace check --hide-inclusion-graph licenses bans sources

soak: tools ## five minutes of mixed traffic on the inference function: right answers, flat memory
	@set -a; eval "$$(tests/tools/setup.sh env)"; set +a; SOAK_SECONDS=$${SOAK_SECONDS:-300} $(CARGO) test --profile bench -p larder-inference --locked --test soak -- --nocapture

SECONDS_EACH ?= 20
fuzz: ## fuzz every parser of outside bytes: make fuzz SECONDS_EACH=600
	@tests/fuzz/run.sh $(SECONDS_EACH)

bench-inference: tools ## larder-inference against a Python function; BENCH="--quick" for two minutes
	@$(CARGO) build --release --locked -p larder-inference
	@set -a; eval "$$(tests/tools/setup.sh env)"; set +a; \
	  $$LARDER_PYTHON tests/benches/inference/bench.py $(TARGET)/release/larder-inference --out $(TARGET)/bench $(BENCH)

bench-reading: tools ## ways to read models from a network file system that answers late; needs root and /dev/fuse
	@set -a; eval "$$(tests/tools/setup.sh env)"; set +a; \
	  $(CARGO) test --profile bench -p larder-inference --locked --test reading -- --exact bench --ignored --nocapture

crd: ## write the CRD again after a change of crds/src
	@UPDATE=1 $(CARGO) test --workspace -q --test generated

tools: ## kube-apiserver, etcd, kubectl, Helm, MiniStack and a font, once, in a cache outside of the checkout
	@tests/tools/setup.sh

build:
	@$(CARGO) build --workspace --all-targets --locked

images: ## the images of the controller and the functions, built from scratch with buildah
	@functions/images.sh

smoke: ## the images, and the inference image reading a sign under podman
	@functions/images.sh --smoke
