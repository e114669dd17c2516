"""What lies on disk, counted while others write there."""

import os
from pathlib import Path


def bytes_under(directory: Path) -> int:
    """Bytes of all files below a directory, by their lengths; what goes away during the count counts nothing.

    `Path.rglob` fails when a directory goes between its listing and its reading, as a builder's do when it ends.
    """
    try:
        with os.scandir(directory) as entries:
            return sum(map(_length, entries))
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _length(entry: os.DirEntry[str]) -> int:
    if entry.is_dir(follow_symlinks=False):
        return bytes_under(Path(entry.path))
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0
