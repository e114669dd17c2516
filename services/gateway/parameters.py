"""What several routes' paths name, each with the id that the OpenAPI document's examples speak of."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from services.gateway.bodies import NAME, Collection

AnswerId = Annotated[str, Path(examples=["5d0f4c1e-8a53-4c4e-9f55-0f2d4f0a6c3b"])]
JobId = Annotated[str, Path(examples=["8c6f8fd2-5b6e-4b8e-a6f4-0a1f2c7f9d10"])]
KeyId = Annotated[str, Path(examples=["3fa1c07b92de"])]
DocId = Annotated[str, Path(description="As it was given; slashes belong to it.", examples=["port/harbour"])]
VersionId = Annotated[str, Path(examples=["1914dd5d-6678-5cb4-8201-2a8c216b27c5"])]
GenerationName = Annotated[str, Path(examples=["g2"])]
Named = Annotated[Collection, Path(examples=["notes"])]
Folder = Annotated[Collection, Path(description="A folder, as the one who keeps it calls it.", examples=["handbook"])]
InCollection = Annotated[str, Query(pattern=NAME, examples=["notes"])]
