"""The settings of the command line and the supervisor."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr

from services.common.settings import Settings

Port = Annotated[int, Field(ge=1, le=65535)]


class AdminSettings(Settings):
    """Where the gateway listens, or is found."""

    host: str = Field("127.0.0.1", description="Address the gateway binds to.")
    port: Port = Field(8420, description="Port the gateway binds to.")
    url: str = Field("", description="Gateway the command line talks to. Default: the stack of `home`.")
    api_key: SecretStr = Field(
        SecretStr(""), description="Key the command line sends. Default: the home's own, to the stack of `home` alone."
    )

    @property
    def reachable_host(self) -> str:
        """The host under which this machine reaches the gateway."""
        return {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(self.host, self.host)

    def url_at(self, port: int) -> str:
        return f"http://{self.reachable_host}:{port}"
