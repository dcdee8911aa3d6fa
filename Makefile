# `make quick` and `make test` need Python >= 3.11 and make; everything else is installed into .venv.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONPATH :=
ifneq ($(shell test -w "$$HOME" && echo yes),yes) # Snakemake caches there
export XDG_CACHE_HOME ?= $(CURDIR)/.snakemake/cache
endif

.PHONY: quick mnist report site test test-all coverage lint lock benchmark gpu-check torture mutation docs-check slurm audit pages clean
.DEFAULT_GOAL := quick

# The stamp holds the lock that was installed: an unchanged lock is not installed again.
.venv/installed.lock: requirements.lock
	@cmp -s requirements.lock $@ && touch $@ && exit 0; \
	"$(PYTHON)" -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python >= 3.11 is needed, this is " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11 ...")'; \
	"$(PYTHON)" -m venv .venv; \
	.venv/bin/python -m pip install --disable-pip-version-check -q -r requirements.lock; \
	cp requirements.lock $@

install_extra = python -m pip install --disable-pip-version-check -q -c requirements.lock \
  $$(python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["$(1)"])')

snakemake = PYTHONPATH="$(CURDIR)/workflow/logger" python -m snakemake --logger bvae
# The commands $(2), then what the study of the file $(1) has found, and the exit status of the commands. After Ctrl-C
# nothing follows; after a failure nothing is said of a file that cannot be read, because Snakemake has said it.
define then_summary
@trap 'exit 130' INT; status=0; $(2) || status=$$?; \
if [ $$status = 0 ]; then python -m bvae summary $(1); else python -m bvae summary $(1) 2> /dev/null || true; fi; \
exit $$status
endef

quick: .venv/installed.lock ## the whole benchmark on scikit-learn's digits
	$(call then_summary,config/quick.yaml,$(snakemake) --workflow-profile profiles/quick)

mnist: .venv/installed.lock ## the study of real MNIST that a CPU finishes
	$(call then_summary,config/mnist.yaml,$(snakemake) --configfile config/mnist.yaml)

STUDY ?= quick
report: .venv/installed.lock ## a study as one page: make report STUDY=mnist makes results/studies/mnist/report.html
	$(call then_summary,config/$(STUDY).yaml,$(snakemake) --configfile config/$(STUDY).yaml && \
	  $(snakemake) --configfile config/$(STUDY).yaml --report results/studies/$(STUDY)/report.html)

site: .venv/installed.lock ## all published studies as one page that needs no network, results/site.html
	python -m bvae site results/published --output results/site.html

test: .venv/installed.lock ## the tests but the slow ones, on all cores
	python -m pytest -n auto --dist worksteal -m "not slow"

test-all: .venv/installed.lock ## all tests
	python -m pytest -n auto --dist worksteal

coverage: .venv/installed.lock ## line and branch coverage of bvae/ by `make test`
	$(call install_extra,coverage)
	rm -rf .coverage && mkdir .coverage
	python -m coverage run -m pytest -n auto --dist worksteal -m "not slow" -q
	python -m coverage combine -q && python -m coverage report -i --include="bvae/*"

lint: .venv/installed.lock
	python -m ruff check .
	python -m ruff format --check .
	python -m mypy
	python -c "from importlinter.cli import lint_imports_command as lint; lint()"
	python -m snakefmt --check Snakefile workflow
	python -m snakemake --lint

benchmark: .venv/installed.lock ## speed and memory beside pythae and a plain loop, into results/published/performance.*
	$(call install_extra,benchmark)
	python -m snakemake -q all -- resources/data/mnist.safetensors
	python tools/performance.py

pages: .venv/installed.lock ## the pages that have a template in docs/templates/, and the picture of all published studies
	PYTHONPATH=. python -m tools.pages

gpu-check: .venv/installed.lock ## on a machine with a GPU: the same bytes by every way, and how fast, within 8 minutes, into results/published/gpu.*
	$(call install_extra,benchmark)
	python tools/gpu_check.py

torture: .venv/installed.lock ## the quick study, killed 30 times at random moments, then 12 times in peace with 1 to 4 jobs: the same bytes
	PYTHONPATH=.:tests python tools/torture.py

docs-check: .venv/installed.lock ## what the pages say: links, quotations, numbers, and every command of the pages from a fresh clone
	python -m pytest -q tests/test_docs.py tests/test_pages.py tests/test_project.py tests/test_library.py bvae
	test -x .venv/check/bin/rocrate-validator || { python -m venv .venv/check && .venv/check/bin/python -m pip install --disable-pip-version-check -q cffconvert==2.0.0 roc-validator==0.13.0 rocrate==0.16.0; }
	PYTHONPATH=.:tests python tools/docs_check.py

mutation: .venv/installed.lock ## lines that numbers rest on, broken one at a time: a test must fail each time
	python tools/mutation.py

slurm: .venv/installed.lock ## the quick study through a SLURM of one node, as root with Debian's slurm-wlm and munge
	$(call install_extra,slurm)
	PYTHONPATH=.:tests python tools/slurm.py

audit: .venv/installed.lock ## known vulnerabilities of the locked versions
	test -x .venv/audit/bin/pip-audit || { python -m venv .venv/audit && .venv/audit/bin/python -m pip install --disable-pip-version-check -q pip-audit==2.10.1; }
	PATH=".venv/audit/bin:$$PATH" python tools/audit.py

lock: ## after a change of dependencies in pyproject.toml: new exact versions
	uv pip compile --quiet --universal --python-version 3.11 --extra workflow --extra dev --no-header --no-annotate pyproject.toml -o requirements.lock
	{ printf 'name: bvae\nchannels:\n  - conda-forge\ndependencies:\n  - python=3.11\n  - pip\n  - pip: # the lines of requirements.lock: `make lock` writes both\n'; \
	  sed 's/.*/      - "&"/' requirements.lock; } > environment.yml

clean:
	rm -rf .venv results/runs results/studies results/controls results/references results/costs results/untrained results/networks logs
