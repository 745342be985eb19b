# avianspec: `make report` and `make test` are all one needs. Each sets up .venv by itself, once.
# DATA=path   folder or CSV of your own recordings (report)     PYTHON=path   interpreter to build .venv with

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo "$$p" && break; done)
DATA ?=
MORE ?=
VENV := .venv/bin
INSTALLED := .venv/installed
DEVELOP := .venv/develop
export AVIANSPEC_CACHE ?= $(CURDIR)/data/cache
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help report test test-all lab export clean

help:                ## what there is
	@echo "make report             study the aviary (synthetic birds) and render the report to _report/index.html"
	@echo "make report DATA=DIR    the same for your own recordings: one subfolder per species, or a xeno-canto style CSV with its audio"
	@echo "make test               run every notebook and all tests"
	@echo "make test-all           the same, and every entry of the catalogue to its end with all its notebooks; for a night"
	@echo "make lab                open the notebooks in JupyterLab"
	@echo "make export             format the notebooks and write the package avianspec/ from them"
	@echo "make clean              remove .venv, the report and what was made in data/ (runs/ and recordings of yours stay)"

report: $(INSTALLED)  ## run the study and render it
	@"$(VENV)/avianspec" report $(if $(DATA),--data "$(DATA)")

test: $(DEVELOP)      ## every notebook, then the tests; MORE= adds words for pytest, such as --cov=avianspec
	@echo "== notebooks"
	@MPLBACKEND=agg "$(VENV)/nbdev_test" --n_workers 2 --do_print
	@echo "== tests"
	@MPLBACKEND=agg "$(VENV)/python" -m pytest -q -n 2 --dist loadfile $(MORE) tests

test-all:             ## for a night: the tests, and every entry of the catalogue, small, with all its notebooks
	@$(MAKE) test MORE="--nightly $(MORE)"

lab: $(DEVELOP)       ## JupyterLab on the notebooks
	@"$(VENV)/jupyter" lab nbs

export: $(DEVELOP)    ## notebooks to package
	@"$(VENV)/ruff" format -q nbs tests benchmarks
	@"$(VENV)/nbdev_clean"
	@"$(VENV)/python" -m avianspec.report.notebooks nbs
	@"$(VENV)/nbdev_export"

clean:               ## back to a fresh clone
	rm -rf .venv data/aviary data/features data/cache _report .pytest_cache .hypothesis .coverage avianspec.egg-info

# What the report needs, and what the tests need besides; pip compiles with one core, compileall with all of them.
define SET_UP
	@test -n "$(PYTHON)" || { echo "avianspec needs Python 3.11, 3.12 or 3.13, and found none; install one or name it: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up .venv with $$("$(PYTHON)" --version), once; this takes some minutes."
	@"$(PYTHON)" -m venv .venv || { echo "Could not make .venv; on Debian: apt install python3-venv"; exit 1; }
	@"$(VENV)/python" -m pip install -q --no-compile -c constraints.txt -e "$(1)"
	@"$(VENV)/python" -m compileall -qq -j 0 .venv/lib || true
endef

$(INSTALLED): settings.ini setup.py constraints.txt
	$(call SET_UP,.)
	@touch "$(INSTALLED)"

$(DEVELOP): settings.ini setup.py constraints.txt
	$(call SET_UP,.[dev])
	@touch "$(INSTALLED)" "$(DEVELOP)"
