"""Jobs in worker processes."""

from pathlib import Path

import psutil
import pytest

from dataset_builder.workers import run_jobs


def leave_holes(report, on_row):
    """Free every other block of 200 MB and write how many of the process's MB are gone after the row."""
    blocks = [b"x" * 100_000 for _ in range(2000)]
    blocks = blocks[1::2]
    before = psutil.Process().memory_info().rss
    on_row()
    Path(report).write_text(str((before - psutil.Process().memory_info().rss) >> 20))
    assert len(blocks) == 1000


@pytest.mark.parametrize("num_workers", [1, 2])
def test_freed_memory_goes_back_to_the_system_after_a_row(tmp_path, num_workers):
    rows = []
    run_jobs(leave_holes, [str(tmp_path / "report")], num_workers, lambda: rows.append(1))
    assert rows == [1]
    assert int((tmp_path / "report").read_text()) > 70
