"""Shared by every suite: how many generated rows a property test looks up, and from which seed."""

import os

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer

from tests.postgres import catalog_in_postgres, catalog_url, empty_url, postgres
from tests.side_by_side import Scheduling

__all__ = ["catalog_in_postgres", "catalog_url", "empty_url", "postgres"]

ROWS = int(os.environ.get("ALMANAC_PROPERTY_ROWS", "1000"))

settings.register_profile(
    "almanac",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("almanac")


SLOW_SUITES = ("integration", "e2e", "chaos")
"""Suites that start processes: part of `make test-all`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name in SLOW_SUITES:
            item.add_marker("slow")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    return Scheduling(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"{ROWS} generated histories, seed {SEED}")


SEED = int(os.environ.get("ALMANAC_SEED", "20261121"))


@pytest.fixture
def seed() -> int:
    """The seed of everything a test draws by itself; printed at the end."""
    return SEED


@pytest.fixture
def histories() -> int:
    """How many histories a property test generates."""
    return ROWS
