"""A real Valkey for the tests that need one."""

import asyncio
import subprocess

from redis.asyncio import Redis

from services.admin.valkey import valkey_argv

_SECONDS = 5.0


class Valkey:
    """A broker of one's own, to be killed at will."""

    def __init__(self, directory):
        self.socket, self._data = directory / "valkey.sock", directory / "data"
        self._data.mkdir()
        self.process = None

    async def start(self):
        self._spawn()
        async with asyncio.timeout(_SECONDS), Redis.from_url(f"unix://{self.socket}") as redis:
            while True:
                try:
                    await redis.ping()
                    return
                except Exception:
                    await asyncio.sleep(0.02)

    def _spawn(self):
        self.process = subprocess.Popen(valkey_argv(self.socket, self._data), stdout=subprocess.DEVNULL)

    def send(self, number):
        self.process.send_signal(number)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
