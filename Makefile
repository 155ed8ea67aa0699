# `make run` and `make test` are the two set-up commands; both build what they need in .venv/.
# Settings go on the command line: make run PORT=8001 TRADING_ENABLED=true REPLAY=candles.csv.gz SPEED=60
SHELL := /bin/sh
python := .venv/bin/python
with_servers := $(python) -m tradingbot.launcher with-servers --

.DEFAULT_GOAL := help
.PHONY: help env run test strangers check bench rehearse rehearse-processes lock
.DELETE_ON_ERROR:

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1|\2/p' Makefile | awk -F '|' '{ printf "%-23s %s\n", $$1, $$2 }'

env: .venv/installed-dev ## the virtual environment only, with the tools for tests and checks

run: .venv/installed ## start the whole product; Ctrl-C stops it
	@exec $(python) -m tradingbot.launcher run

test: .venv/installed-dev ## all tests, on private servers of their own: make test ARGS="tests/risk -x"
	@deploy/ensure_chromium
	@exec $(with_servers) $(python) -m pytest -ra $(ARGS)

strangers: .venv/installed ## NautilusTrader trades on the simulator; needs Python 3.12, says so without it (77)
	@$(python) -m tests.strangers.run_nautilus

check: .venv/installed-dev ## style, import contracts, types, migrations
	$(python) -m ruff check
	$(python) -m ruff format --check
	$(python) -c 'from importlinter.cli import lint_imports_command as lint; lint()'
	$(with_servers) sh -ec '$(python) -m mypy .; $(python) manage.py check; $(python) manage.py makemigrations --check --dry-run; $(python) manage.py states --check'

bench: .venv/installed-dev ## the figures of benchmarks/, printed as a table
	@exec $(python) -m benchmarks $(ARGS)

rehearse: .venv/installed-dev ## seeded days with faults and crashes: make rehearse ARGS="--days 1 --seeds 3"
	@TRADING_ENABLED=true exec $(with_servers) $(python) manage.py rehearse $(ARGS)

rehearse-processes: .venv/installed-dev ## 200 kills of real processes while orders flow: make rehearse-processes ARGS="--kills 20 --seed 3"
	@TRADING_ENABLED=true exec $(with_servers) $(python) manage.py rehearse_processes $(ARGS)

lock: .venv/installed-dev ## compile requirements*.txt, every wheel with its hashes, from requirements*.in
	$(python) -m uv pip compile -q --universal --python-version 3.11 --generate-hashes requirements-bootstrap.in -o requirements-bootstrap.txt
	$(python) -m uv pip compile -q --universal --python-version 3.11 --generate-hashes requirements.in -o requirements.txt
	$(python) -m uv pip compile -q --universal --python-version 3.11 --generate-hashes -c requirements.txt requirements-dev.in -o requirements-dev.txt
	$(python) -m uv pip compile -q --universal --python-version 3.12 --generate-hashes requirements-nautilus.in -o requirements-nautilus.txt

# The stamps make a warm start free: nothing is asked of pip until a pinned file changes.
.venv/installed: requirements.txt requirements-bootstrap.txt
	@deploy/make_env requirements.txt
	@touch $@

.venv/installed-dev: requirements-dev.txt requirements.txt requirements-bootstrap.txt
	@deploy/make_env requirements-dev.txt
	@touch .venv/installed $@
