"""One real stack for the suite, with the sample corpus in it."""

import pytest

from tests.support import ingest_examples, running_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    with running_stack(tmp_path_factory.mktemp("e2e") / "home") as running:
        counts = ingest_examples(running)
        assert counts["failed"] == 0, counts
        yield running
