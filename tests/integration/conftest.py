"""A real Valkey, killed at the end of the test."""

import tempfile
from pathlib import Path

import pytest

from tests.valkey import Valkey


@pytest.fixture
def directory():
    with tempfile.TemporaryDirectory() as short:
        yield Path(short)


@pytest.fixture
async def valkey(directory):
    server = Valkey(directory)
    await server.start()
    yield server
    server.kill()
