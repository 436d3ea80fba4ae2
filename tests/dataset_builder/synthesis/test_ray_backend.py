"""A synthesis run on two Ray machines, one of which is lost on the way."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from dataset_builder.mm_traj import read_records
from dataset_builder.synthesis.commands import synthesize
from dataset_builder.synthesis.config import SynthConfig
from dataset_builder.synthesis.ray_backend import part_of, worker_config
from dataset_builder.synthesis.run_folder import IN_FLIGHT, finished_rows, journal_files
from tests.helpers.teacher_server import MODEL, teacher_server


NUM_TASKS = 24


def make_config(url: str, folder: Path, **options) -> SynthConfig:
    values = {"num_tasks": NUM_TASKS, "num_workers": 2, "concurrency": 4, "flavor": "gaia", "embedding": "words"}
    return SynthConfig(teacher=url, output=str(folder), model=MODEL, backend="ray", **{**values, **options})


def check_outcomes(folder: Path, num_tasks: int) -> Counter:
    """Every candidate has one row, and nothing is left in flight."""
    names = []
    counts = Counter()
    for outcome, row in finished_rows(folder):
        names.append(row["provenance"]["synthesis"]["id"] if outcome == "kept" else row["id"])
        counts[outcome] += 1
    assert len(names) == len(set(names)) == num_tasks
    assert not journal_files(folder, f"{IN_FLIGHT}/*.json")
    assert json.loads((folder / "report" / "report.json").read_text())["outcomes"] == dict(counts)
    # Each worker wrote shards of its own, and the export reads them as one run.
    assert {path.stem.rsplit("-", 1)[1] for path in (folder / "shards").glob("train-*.jsonl")} == {"000", "001"}
    tasks = [r["task"]["id"] for split in ("train", "validation", "test") for r in read_records(folder, split)]
    assert len(set(tasks)) == counts["kept"] > 0
    assert json.loads((folder / "dataset" / "statistics.json").read_text())["rows"] == counts["kept"]
    return counts


@pytest.fixture
def cluster():
    """A head without processors and two machines with one each."""
    ray = pytest.importorskip("ray", reason="needs the extra `ray`")
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    try:
        cluster.machines = [cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20) for _ in range(2)]
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
def test_a_run_outlives_the_loss_of_a_machine(tmp_path, cluster):
    folder = tmp_path / "run"
    with teacher_server("--latency", "0.2") as url:
        ended = []
        run = threading.Thread(target=lambda: ended.append(synthesize(make_config(url, folder))))
        run.start()
        # Both workers are in the middle of candidates.
        while len(list(folder.glob(f"workers/*/{IN_FLIGHT}/*.json"))) < 4 or len(list(folder.glob("workers/*"))) < 2:
            assert run.is_alive()
            time.sleep(0.05)
        cluster.remove_node(cluster.machines[0], allow_graceful=False)
        before = len(list(finished_rows(folder)))
        assert before < NUM_TASKS
        run.join(timeout=600)
        assert ended == [0]
        check_outcomes(folder, NUM_TASKS)
        # A larger run goes on with it as a whole.
        assert synthesize(make_config(url, folder, num_tasks=NUM_TASKS + 4)) == 0
        check_outcomes(folder, NUM_TASKS + 4)


def test_the_parts_of_the_workers_make_the_whole():
    config = make_config("http://127.0.0.1:1/v1", Path("x"), num_tasks=10, num_workers=4, token_budget=100)
    parts = [worker_config(config, number) for number in range(4)]
    assert [part.num_tasks for part in parts] == [3, 3, 2, 2]
    assert [part.token_budget for part in parts] == [25] * 4
    assert [part.concurrency for part in parts] == [1] * 4


def test_no_batch_is_made_by_two_workers():
    from dataset_builder.synthesis.pipeline import Stages

    whole = Stages(lambda batch: [batch], lambda c, _: c, lambda q: [None] * len(q), (), 10)
    parts = [part_of(whole, number, 3, whole.duplicates) for number in range(3)]
    assert sorted(batch for part in parts for local in range(4) for batch in part.generate(local)) == list(range(12))
