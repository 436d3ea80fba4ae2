import pytest

from t3_agents.evaluation.run import published_results


@pytest.mark.parametrize("benchmark", ["gta", "gaia"])
def test_every_row_has_a_share_per_column(benchmark):
    table = published_results(benchmark)
    assert "ICLR 2025" in table.source and table.url.endswith("2412.15606")
    assert table.caution and table.tasks > 0
    for row in table.rows:
        assert len(row.values) == len(table.columns)
        assert all(value is None or 0 <= value <= 100 for value in row.values)
    assert len({(row.method, row.controller) for row in table.rows}) == len(table.rows)


def test_known_numbers():
    gta = {(row.method, row.controller): row.values for row in published_results("gta").rows}
    assert gta["T3-Agent", "Qwen2-VL-7B tuned"] == (53.85, 64.63, 84.32)
    assert gta["Lego Agent", "GPT-4"] == (46.59, None, None)
    assert published_results("gta").scoring == "paper"
    gaia = {(row.method, row.controller): row.values for row in published_results("gaia").rows}
    assert gaia["T3-Agent", "MiniCPM-V-8.5B tuned"] == (15.15, 26.42, 11.63, 3.84)
    assert [column.value for column in published_results("gaia").columns] == [None, "1", "2", "3"]


def test_levels_of_gaia_add_up_to_the_whole():
    """53, 86 and 26 tasks of the validation split: a mistyped number would not fit."""
    for row in published_results("gaia").rows:
        whole, *levels = row.values
        weighted = sum(n * value for n, value in zip((53, 86, 26), levels, strict=True)) / 165
        assert weighted == pytest.approx(whole, abs=0.07), row


def test_other_benchmarks_have_none():
    assert published_results("scenarios") is None and published_results("unheard") is None
