"""One real stack for the suite, with the sample corpus in it."""

import pytest
from playwright.sync_api import expect

from tests.collector import collecting
from tests.e2e.browser import SLOW_MS, chromium, opened
from tests.support import ingest_examples, running_stack


@pytest.fixture(scope="session")
def collector():
    """What the stack's processes tell of their work."""
    with collecting() as running:
        yield running


@pytest.fixture(scope="session")
def stack(tmp_path_factory, collector):
    told = {"ALMANAC_OTLP_ENDPOINT": collector.address, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with running_stack(tmp_path_factory.mktemp("e2e") / "home", **told) as running:
        counts = ingest_examples(running)
        assert counts["failed"] == 0, counts
        yield running


@pytest.fixture(scope="module")
def browser():
    """Of the module: Playwright keeps a loop of its own in the thread, beside which no asynchronous test runs."""
    expect.set_options(timeout=SLOW_MS)
    with chromium() as started:
        yield started
    expect.set_options(timeout=5_000)


@pytest.fixture
def page(browser, stack):
    """The page over the suite's stack."""
    with opened(browser, stack.url) as ready:
        yield ready
