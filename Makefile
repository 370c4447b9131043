# Needs a POSIX shell, make, and Python >= 3.11, < 3.14 with pip; everything else goes into .venv.

SUPPORTED := 3.11 3.14
PEER_SUPPORTED := 3.12 3.14
PEER := ctao-calibpipe==0.8.0

BIN := .venv/bin
PEER_BIN := .venv-interop/bin
READY := .venv/.ready
PEER_READY := .venv-interop/.ready

# Prefect keeps its database and results inside the checkout, takes its time to start a temporary
# server on a slow machine, and tells nobody.
export PREFECT_HOME := $(CURDIR)/.prefect
export PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS := 120
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# $(call find_python,LOW HIGH): shell text that prints an interpreter with LOW <= version < HIGH, or nothing.
# A name on PATH may be a shim that refuses to run, and Debian keeps what venv needs in a package of its own:
# each candidate is asked. PYTHON=... comes first.
define find_python
for candidate in "$$PYTHON" python3 python3.13 python3.12 python3.11 python \
    "$$HOME"/.pyenv/versions/*/bin/python "$$(uv python find '>=$(word 1,$(1)),<$(word 2,$(1))' 2>/dev/null)"; do \
  [ -n "$$candidate" ] || continue; \
  "$$candidate" -c 'import ensurepip, sys, venv; low, high = (tuple(map(int, v.split("."))) for v in "$(1)".split()); \
sys.exit(not low <= sys.version_info[:2] < high)' >/dev/null 2>&1 </dev/null || continue; \
  "$$candidate" -c 'import sys; print(sys.executable)'; break; \
done
endef

# $(call make_venv,FOLDER,LOW HIGH,LABEL): shell text that creates FOLDER unless a usable one is there.
define make_venv
if ! $(1)/bin/python -m pip --version >/dev/null 2>&1; then \
  python=$$($(call find_python,$(2))); \
  if [ -z "$$python" ]; then \
    echo "$(3) needs a Python >= $(word 1,$(2)) and < $(word 2,$(2)) that can create virtual environments; none was found as" >&2; \
    echo "python3, python3.13, python3.12, python3.11 or python on PATH, under ~/.pyenv/versions, or by uv." >&2; \
    echo "On Debian and Ubuntu a Python that is there may only lack a package: apt-get install python3-venv" >&2; \
    echo "A Python elsewhere can be named: make PYTHON=/path/to/python ..." >&2; \
    exit 1; \
  fi; \
  echo "creating $(1) with $$python"; \
  rm -rf $(1) && "$$python" -m venv $(1) || { rm -rf $(1); exit 1; }; \
fi
endef

.PHONY: help
help: ## list the targets
	@echo "make TARGET [ARGS='...'] [PYTHON=/path/to/python]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 12

$(READY): pyproject.toml constraints.txt
	@$(call make_venv,.venv,$(SUPPORTED),arraycal)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test,bench,postgres]'
	@touch $@

$(PEER_READY): constraints-interop.txt
	@$(call make_venv,.venv-interop,$(PEER_SUPPORTED),$(PEER))
	$(PEER_BIN)/python -m pip install -q -c constraints-interop.txt $(PEER) pytest
	@touch $@

# The demonstration stays in the checkout: folders and history of a site are not meant.
DEMO := env -u ARRAYCAL_DATA_ROOT -u ARRAYCAL_OUTPUT_ROOT -u ARRAYCAL_DATABASE_URL

.PHONY: demo
demo: $(READY) ## simulate a small night with known truth, calibrate it, compare
	$(DEMO) $(BIN)/arraycal simulate demo/blocks --array north --blocks 3 --showers 4000 --seed 1 --overwrite
	$(DEMO) $(BIN)/arraycal run energy-inter demo/blocks --output demo/result --truth demo/blocks/truth.json --overwrite
	@echo "open in a browser: file://$(CURDIR)/demo/result/report.html"

# The suite brings its own Prefect server; a server or profile of yours must not see its runs.
.PHONY: test
test: $(READY) ## run the test suite on all cores (ARGS are for pytest; -n 0 for one process)
	env -u PREFECT_API_URL -u PREFECT_API_KEY -u PREFECT_PROFILE $(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

.PHONY: check
check: $(READY) ## lint, format, types, import directions
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: wheel
wheel: $(READY) ## build the wheel and try it far from the checkout
	rm -rf dist
	$(BIN)/python -m pip wheel -q --no-deps -w dist .
	$(BIN)/python -m pytest tests/wheel $(ARGS)

.PHONY: bench
bench: $(READY) ## run benchmarks/bench_*.py, one after the other
	@set -e; for script in benchmarks/bench_*.py; do \
	  echo "== $$script"; OPENBLAS_NUM_THREADS=1 $(BIN)/python "$$script" $(ARGS); \
	done

# There and back again: our material, the peer's tools on it, our reading of what they wrote. The peer's
# environment has neither our packages nor our pytest plugins: hence -P, no configuration, no outer conftest.
.PHONY: interop
interop: $(READY) $(PEER_READY) ## exchange files with ctao-calibpipe, both ways (Python >= 3.12)
	rm -rf .interop
	mkdir .interop
	$(BIN)/python tests/interop/produce.py "$(CURDIR)/.interop"
	ARRAYCAL_INTEROP="$(CURDIR)/.interop" $(PEER_BIN)/python -P -m pytest --import-mode=importlib \
	  -c /dev/null --rootdir=. --confcutdir=tests/interop -p no:cacheprovider -ra tests/interop $(ARGS)
	if [ -d tests/interop_back ]; then \
	  ARRAYCAL_INTEROP="$(CURDIR)/.interop" $(BIN)/python -m pytest tests/interop_back $(ARGS); \
	fi

# Prints the interpreter that `make interop` would use; fails where there is none.
.PHONY: interop-python
interop-python:
	@python=$$($(call find_python,$(PEER_SUPPORTED))); [ -n "$$python" ] && echo "$$python"

# One set of versions for every supported Python; uv alone resolves for interpreters that are not there.
.PHONY: lock
lock: ## write constraints.txt and constraints-interop.txt anew
	@$(call make_venv,.lock,$(SUPPORTED),make lock)
	.lock/bin/python -m pip install -q uv
	.lock/bin/uv pip compile -q pyproject.toml --extra test --extra bench --extra postgres --upgrade --universal \
	  --python-version $(word 1,$(SUPPORTED)) --fork-strategy fewest --no-header --no-annotate -o .lock/main.txt
	printf '$(PEER)\npytest\n' > .lock/peer.in
	.lock/bin/uv pip compile -q .lock/peer.in --upgrade --universal \
	  --python-version $(word 1,$(PEER_SUPPORTED)) --fork-strategy fewest --no-header --no-annotate -o .lock/peer.txt
	sed '/^#/!d' constraints.txt > .lock/new && cat .lock/main.txt >> .lock/new && mv .lock/new constraints.txt
	sed '/^#/!d' constraints-interop.txt > .lock/new && cat .lock/peer.txt >> .lock/new && mv .lock/new constraints-interop.txt
	rm -rf .lock

.PHONY: clean
clean: ## remove what the other targets made, environments included
	rm -rf .venv .venv-interop .interop .lock .prefect demo dist build *.provenance.log
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find flows tasks calib config tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
