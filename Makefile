# make demo      the whole story on this machine, from nothing; KEEP=1 leaves it running
# make test      lint, types and every test
# make test-long what make test tries with less: gigabytes, for some minutes
# make messages  the words of the pages for translators, in webadmin/locale
# make bench     measures against what people would use instead, and writes docs/performance.md
.PHONY: install demo test test-install test-fast test-long lint messages bench clean

PYTHON ?= python3
BIN := .venv/bin
# The tests start hundreds of Pythons, each of which would compile all of it again.
unexport PYTHONDONTWRITEBYTECODE

install:
	@$(PYTHON) -I workspaces/prerequisites.py install

test-install:
	@$(PYTHON) -I workspaces/prerequisites.py install --tests

demo: install
	@$(BIN)/workspaces demo $(if $(KEEP),--keep)

lint: test-install
	$(BIN)/ruff check --config .ci/ruff.toml .
	$(BIN)/ruff format --config .ci/ruff.toml --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What databases and archives wait for the disk at each step costs more than the tests; in memory they need not.
ROOM := $(shell df -k --output=avail /dev/shm 2>/dev/null | tail -1)
IN_MEMORY := $(shell test "$(ROOM)" -gt 4000000 2>/dev/null && echo env PYTEST_DEBUG_TEMPROOT=/dev/shm)

# The tests with an engine share one, so they run in one process; a file's tests stay together in the others.
test: lint
	$(IN_MEMORY) $(BIN)/pytest -n 2 --dist loadfile -m "not docker and not browser and not long"
	$(IN_MEMORY) $(BIN)/pytest -m "browser and not long" $$(grep -l 'mark\.browser' tests/test_*.py)
	$(BIN)/pytest -m "docker and not long" $$(grep -l 'mark\.docker' tests/test_*.py)

# Files that are slow as a whole are not even read.
test-fast: test-install
	$(IN_MEMORY) $(BIN)/pytest -n 2 --dist loadfile -m "not docker and not browser and not slow" \
		$$(grep -LE '^pytestmark.*(docker|browser|slow)' tests/test_*.py)

test-long: test-install
	$(BIN)/pytest -m long

messages: test-install
	@$(BIN)/python -m tests.support.messages

bench:
	@$(PYTHON) -I workspaces/prerequisites.py install --bench
	$(BIN)/python -m bench

clean:
	rm -rf .venv .cache build dist *.egg-info workspaces/guest/bin webadmin/assets/node_modules webadmin/static/vendor
