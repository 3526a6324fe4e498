# Everything goes through packaging/setup first: on a fresh Debian 12 or 13 each target just works, as root at once,
# otherwise after the one command that it names.

BIN := .venv/bin
KERNEL_RUN := packaging/kernel/run

.PHONY: lab test test-kernel test-interop test-stock soak fuzz simulate kernel-shell check bench docs clean setup setup-kernel

# `make lab KERNEL=test`: inside the test kernel, with ESP and the queues of that kernel.
ifeq ($(KERNEL),test)
lab: setup-kernel
	@$(KERNEL_RUN) $(BIN)/oe lab --backend xfrm
else
lab: setup
	@$(BIN)/oe lab
endif

test: check
	@packaging/isolated $(BIN)/pytest -m "not kernel and not guest and not interop"
	@$(MAKE) --no-print-directory test-kernel
ifeq ($(OE_REQUIRE_ALL_TIERS),1)
	@$(MAKE) --no-print-directory test-interop
	@$(MAKE) --no-print-directory test-stock
else
	@packaging/isolated $(BIN)/pytest -m interop -rs tests/interop
	@echo "Debian's own kernel was left out: it takes three minutes. \`make test-stock\` runs it, and so does CI."
endif

test-kernel: setup-kernel
	@packaging/kernel/build >/dev/null
	@packaging/isolated $(BIN)/pytest -m guest
	@$(KERNEL_RUN) --results build/test-kernel $(BIN)/pytest -p no:cacheprovider -m "kernel or netns" --junitxml=/run/job/results/junit.xml \
		tests/kernel tests/ipsec tests/trap tests/leak

# With Libreswan and strongSwan, in the test kernel. Their root file systems are made where you are root; docs/interop.md.
test-interop: setup-kernel
	@packaging/kernel/build >/dev/null
	@[ "$$(id -u)" -ne 0 ] || for rival in libreswan strongswan strongswan-next; do packaging/rivals/build $$rival >/dev/null || exit; done
	@packaging/isolated $(BIN)/pytest -m interop tests/interop

# Debian's own kernel, emulated: slow, so a short tour of the lab only.
test-stock: setup
	@packaging/setup stock
	@packaging/stock/run $(BIN)/oe lab --pace 20 --backend xfrm --only "bob, tcp"

# A day of two gateways on virtual time, in some minutes.
soak: setup-kernel
	@$(KERNEL_RUN) --time-travel --results build/soak $(BIN)/python -m bench.soak --json /run/job/results/soak.json

# Coverage-guided fuzzing of all that reads octets of others; what it stumbles over is in build/fuzz.
MINUTES ?= 10
fuzz: setup
	@$(BIN)/python -c "import atheris" 2>/dev/null || \
		$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint packaging/constraints.txt --editable ".[fuzz]"
	@nice -n 19 $(BIN)/python -m tests.fuzz --minutes $(MINUTES)

# Whole gateways on virtual time, over bad networks and through crashes: ten thousand stories.
SEEDS ?= 10000
simulate: setup
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --jobs $$(nproc)

kernel-shell: setup-kernel
	@$(KERNEL_RUN) --shell

check: setup
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

# `make bench KERNEL=test`: beside Libreswan, in the test kernel; as root, because of the rival's root file system.
ifeq ($(KERNEL),test)
bench: setup-kernel
	@$(BIN)/python -c "import matplotlib" 2>/dev/null || \
		$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint packaging/constraints.txt --editable ".[bench]"
	@$(BIN)/python -m bench.first_packet --plot docs/first-packet.png
else
bench: setup
	@$(BIN)/python -m bench
endif

docs: setup
	@$(BIN)/python docs/generate.py

setup:
	@packaging/setup

setup-kernel:
	@packaging/setup kernel

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
