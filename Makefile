# make demo: train a tiny video transformer on generated videos.   make test   make lint   make install
# make soak: end 30 small runs at random steps, resume them, and compare (Linux; 10 minutes on 2 cores).
# Needs Python 3.11 to 3.13, make and a network; everything else goes into .venv.

PY := .venv/bin/python
READY := .venv/ready

.PHONY: demo test soak lint install lock

demo: $(READY)
	$(PY) train.py experiment=demo

test: $(READY)
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

soak: $(READY)
	$(PY) tests/soak.py

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	.venv/bin/lint-imports --no-cache
	$(PY) -m mypy

install: $(READY)

# The stamp is written last, so an installation that was interrupted is done again.
$(READY): requirements.lock pyproject.toml
	@python="$$(for p in python3 python3.13 python3.12 python3.11 python; do \
	  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && command -v $$p && break; done)"; \
	test -n "$$python" || { echo "make: needs Python 3.11, 3.12 or 3.13 on the PATH, and found none" >&2; exit 1; }; \
	"$$python" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: $$python cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }; \
	echo "installing into .venv with $$python (about 6 GB on Linux; minutes)"; \
	rm -f $(READY); "$$python" -m venv --clear .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

# Pins and hashes for every system and Python, without download addresses. Needs uv.
lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --quiet -o requirements.lock
