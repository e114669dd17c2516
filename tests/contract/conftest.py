import pytest

from services.common.clients.retriever import RetrieverClient
from tests.fakes.retriever import BACKENDS, index_directory, retriever_over, served


@pytest.fixture
def index_dir():
    with index_directory() as directory:
        yield directory


@pytest.fixture(params=[*BACKENDS, "edge over gRPC"])
async def retriever(request, tmp_path, index_dir):
    """Every backend in process, and one through its server and client."""
    inside = retriever_over(request.param.split()[0], index_dir)
    if request.param.endswith("gRPC"):
        async with served(inside, tmp_path) as line:
            yield RetrieverClient(line)
    else:
        yield inside
    await inside.close()
