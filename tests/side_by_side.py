"""Which files of tests may run side by side."""

from __future__ import annotations

from pathlib import PurePath

from xdist.scheduler import LoadFileScheduling

BROWSER, NETWORKS = "test_page", ("test_rolling", "test_topology")
"""What the names of files begin with whose tests open a browser, and of those whose tests make network interfaces."""


def one_by_one(file: str) -> bool:
    """Whether the file's tests and those of others like it run one after another.

    Where an interface comes or goes anywhere on a machine, Chromium breaks off whatever it is loading
    (`net::ERR_NETWORK_CHANGED`), and a page whose scripts are lost never gets ready.
    """
    return PurePath(file).name.startswith((BROWSER, *NETWORKS))


class Scheduling(LoadFileScheduling):
    """Files side by side, but for those that are one after another."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "networks" if one_by_one(file) else file
