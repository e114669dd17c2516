"""What an index keeps in main memory."""

from __future__ import annotations

from pathlib import Path

_MAPS = Path("/proc/self/smaps")


def mapped_bytes(directory: Path) -> int:
    """Pages in memory of the files below the directory that this process has mapped (proc(5)); 0 without /proc.

    Pages that other processes have mapped as well count whole. Takes milliseconds.
    """
    if not _MAPS.exists():
        return 0
    below, total, counted = f" {directory.resolve()}/", 0, False
    with _MAPS.open() as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name == "Rss":
                total += int(value.split()[0]) * 1024 * counted
            elif "-" in name.partition(" ")[0]:
                counted = below in line
    return total
