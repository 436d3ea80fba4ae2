"""What a log holds of long work."""

from __future__ import annotations

from t3_agents.progress import WorkProgress


def test_a_log_has_lines_of_text(capsys):
    with WorkProgress(line_seconds=0) as progress:
        bar = progress.add_task("Steps", total=1200)
        progress.advance(bar)
        progress.update(bar, completed=1100, note="loss 0.125")
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("Steps: 1 of 1,200, ") and first.endswith(" s")
    assert second.startswith("Steps: 1,100 of 1,200, ") and second.endswith(" s loss 0.125")


def test_lines_are_rare(capsys):
    with WorkProgress(line_seconds=3600) as progress:
        bar = progress.add_task("Rows", total=None)
        for _ in range(100):
            progress.advance(bar)
    assert capsys.readouterr().err == ""


def test_other_processes_are_silent(capsys):
    with WorkProgress(disable=True, line_seconds=0) as progress:
        progress.advance(progress.add_task("Steps", total=2))
    assert capsys.readouterr().err == ""
