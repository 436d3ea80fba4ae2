"""Export the rows of a run to other formats: the command `t3 export RUN`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from t3_agents.options import Positional
from t3_agents.progress import WorkProgress


@dataclass
class ExportConfig:
    """Write the rows of a run in other formats.

    Args:
        run (`str`): folder of `t3 build`, `t3 synth` or `t3 import`.
        format (`str`): `mm-traj` (the form of the released training data), `atif` (Agent Trajectory Interchange
            Format) or `sharegpt` (LLaMA-Factory, ms-swift).
        output (`str`): folder to make.
    """

    run: Positional[str]
    format: Literal["mm-traj", "atif", "sharegpt"]
    output: str


def main(config: ExportConfig) -> int:
    """The command `t3 export RUN`."""
    from .export_rows import export_rows

    with WorkProgress() as progress:
        bar = progress.add_task("Rows", total=None)
        counts = export_rows(config.run, config.output, config.format, on_row=lambda: progress.advance(bar))
    print(f"{counts.exported} rows exported, {counts.left_out} left out")
    for reason, number in counts.reasons.most_common(12):
        print(f"left out: {number} x {reason}")
    print(config.output)
    return 0
