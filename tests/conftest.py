import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: pytest-xdist gives each core a process of its own

import logging
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"

hypothesis.settings.register_profile("ci", max_examples=40, deadline=None, derandomize=True)
hypothesis.settings.register_profile("dev", max_examples=200, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def log_handlers_of_its_own() -> Iterator[None]:
    """Remove the handlers that a workflow gave the root logger: they write to the stderr of this test alone."""
    before = list(logging.getLogger().handlers)
    yield
    for handler in set(logging.getLogger().handlers) - set(before):
        if type(handler) is logging.StreamHandler:
            logging.getLogger().removeHandler(handler)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real scans beside the checkout; tests that need them say so when they are absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs ../shared/data, which is not beside this checkout")
    return SHARED_DATA
