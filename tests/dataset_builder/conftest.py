"""Hand-made run folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.run_samples import make_trajectory, write_shard


@pytest.fixture
def run_folder(tmp_path) -> Path:
    """Two families in train, one row in validation, one in test; rows with 0, 1 and 2 attached pictures."""
    run, scratch = tmp_path / "run", tmp_path / "scratch"
    write_shard(run, "train-receipts", [make_trajectory(scratch, n, pictures=n % 3) for n in range(5)])
    write_shard(run, "train-maps", [make_trajectory(scratch, n, pictures=2, family="maps") for n in range(10, 13)])
    write_shard(run, "validation-maps", [make_trajectory(scratch, 20, family="maps")])
    write_shard(run, "test-posters", [make_trajectory(scratch, 30, pictures=0, family="posters")])
    return run
