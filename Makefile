# make quickstart   the whole story on this machine: set-up, then every stage on the standard library
# make test         set-up, lint, types, tests
# make clients      other people's clients, unmodified, against the live service; installs them first
# make vscode       the editor extension as serve/vscode/codelm.vsix
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: quickstart test lint setup clean clients vscode

quickstart: setup
	@$(BIN)/codelm pipeline ray_jobs/configs/quickstart.yaml

test: lint
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

setup: $(STAMP)

$(STAMP): pyproject.toml cluster/constraints.txt
	@echo "setting up .venv (about 2 GB; a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint cluster/constraints.txt --editable ".[dev]" 2>.venv/install.log \
		|| { cat .venv/install.log >&2; exit 1; }
	@touch $(STAMP)

clients: setup
	@cd tests/clients && npm ci --silent --no-audit --no-fund
	@test -x .venv-clients/bin/python || $(PYTHON) -m venv .venv-clients
	@.venv-clients/bin/python -m pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
	@$(BIN)/python -m tests.clients.run .venv-clients/bin/python

vscode:
	@cd serve/vscode && npm ci --silent --no-audit --no-fund && npm run --silent check && npm run --silent package

clean:
	rm -rf .venv .venv-clients runs tests/clients/node_modules serve/vscode/node_modules
