"""One real stack for the suite, with the sample corpus in it."""

import pytest

from tests.collector import collecting
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
