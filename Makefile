# The two commands of the README are `make demo` and `make test`. Each makes .venv when it is
# missing, installs pinned versions, and then does its job; a second run installs nothing.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo test check bench clean

demo: $(INSTALLED)
	$(BIN)/skvae demo $(ARGS)

test: $(INSTALLED)
	$(BIN)/python -m pytest $(ARGS)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# ARGS=--quick for a foretaste. What takes hours (density, growth, networks, sequences) is printed from the kept results.
bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/requirements.txt
	for name in quickstart training precision inference processes startup network_speed; do \
		$(BIN)/python -m benchmarks.$$name $(ARGS) || exit 1; \
	done
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.density --rows vae,iwae5,flow_prior,ladder
	$(BIN)/python -m benchmarks.networks --kept
	$(BIN)/python -m benchmarks.sequences --kept

# torch is named exactly, so that pip takes the pinned build and looks at no other.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^pip==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]' --group dev
	touch $@

clean:
	rm -rf .venv demo
