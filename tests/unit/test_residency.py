"""What an index keeps in main memory, by the pages of its mapped files."""

from pathlib import Path

import numpy as np
import pytest

from services.retriever.backends.residency import mapped_bytes


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="no /proc here")
def test_the_pages_read_of_mapped_files_below_a_directory_count_and_no_others(tmp_path):
    for name in ("index", "index-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "codes").write_bytes(b"\1" * 2**20)
    held = {name: np.memmap(tmp_path / name / "codes", np.uint8, mode="r") for name in ("index", "index-2")}
    assert held["index"].sum() == 2**20
    assert mapped_bytes(tmp_path / "index") == 2**20 and mapped_bytes(tmp_path) >= 2**20
    assert mapped_bytes(tmp_path / "index" / "codes") == 0
    del held["index"]
    assert mapped_bytes(tmp_path / "index") == 0
