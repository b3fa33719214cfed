# Two commands for a new user: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test check unit fault bench-train bench-loader bench-data bench-search install clean
demo: install
	$(BIN)/frontier run --preset demo --data synthetic

test: install check
	$(BIN)/python -m pytest -m "not e2e"
	$(BIN)/python -m pytest -m e2e

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench-train: DATA ?= ../photos
bench-train: install
	$(BIN)/python tests/bench/training_speed.py --data $(DATA)

# 1 is Objects365's own size: 8 GB of disk and half an hour; image checks need DATA=../photos
SCALES ?= 0.01 0.1
bench-data: install
	$(BIN)/python tests/bench/catalog.py --scales $(SCALES)
	$(BIN)/python tests/bench/near_duplicates.py
	$(BIN)/python tests/bench/voc_reading.py
	$(if $(DATA),$(BIN)/python tests/bench/image_checks.py --images $(DATA)/images)

# of generated data, or of DATA=../photos
bench-loader: install
	$(BIN)/python tests/bench/loader_speed.py $(if $(DATA),--data $(DATA))

# hours: one supernet, three searches, four trainings of 20 minutes; OUT keeps what is done
bench-search: DATA ?= ../photos
bench-search: OUT ?= .work/bench-search
bench-search: install
	$(BIN)/python tests/bench/search.py --data $(DATA) --out $(OUT)

# damage of every kind at full counts; the suite runs a seeded sample of it
fault: install
	$(BIN)/python -m pytest tests/fault --full

unit: install
	$(BIN)/python -m pytest tests/unit tests/property

install: $(INSTALLED)

# torch first, by its exact pin. Where the index serves its CUDA build, NVIDIA's packages come with
# it, and those are not in the lock.
$(INSTALLED): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' requirements.lock)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .work .prefect data/[!R]* mlruns/[!R]*
