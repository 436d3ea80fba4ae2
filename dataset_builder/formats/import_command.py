"""Import trajectories of other formats: the command `t3 import FORMAT INPUT`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from t3_agents.options import Positional
from t3_agents.progress import WorkProgress


@dataclass
class ImportConfig:
    """Read trajectories of other formats into a run.

    Args:
        format (`str`): `mm-traj` (the released training data), `atif` (Agent Trajectory Interchange Format) or
            `sharegpt` (LLaMA-Factory, ms-swift).
        input (`str`): file with the rows (JSON or JSON Lines), or a folder of documents.
        output (`str`): folder of the run; the finished dataset is `<output>/dataset`. The same command on it resumes a
            stopped run.
        images (`str`, *optional*): folder or zip archive of the pictures; the folder of the rows by default.
        missing (`str`, *optional*, defaults to `"drop"`): what becomes of a row with a file that is not there or
            cannot be read: `drop`, or `keep` without the file.
        split (`str`, *optional*, defaults to `"train"`): split of rows that do not name one.
    """

    format: Positional[Literal["mm-traj", "atif", "sharegpt"]]
    input: Positional[str]
    output: str
    images: str | None = None
    missing: Literal["drop", "keep"] = "drop"
    split: str = "train"


def run_import(config: ImportConfig) -> Path:
    """Import the rows of a config and export what was kept as a dataset.

    Returns:
        `Path`: the dataset, `<output>/dataset`.

    Raises:
        InputError: when an option or a file cannot be used, or no row was kept.
        RunFolderError: when the folder holds another run, or another process works in it.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ..export import export_run
    from .import_atif import read_atif
    from .import_mm_traj import read_mm_traj
    from .import_run import import_rows
    from .import_sharegpt import read_sharegpt

    readers = {"mm-traj": read_mm_traj, "atif": read_atif, "sharegpt": read_sharegpt}
    folder = Path(config.output)
    with WorkProgress() as progress:
        bar = progress.add_task("Rows", total=None)
        counts = import_rows(
            readers[config.format],
            config.input,
            folder,
            config.format,
            images=config.images,
            missing=config.missing,
            split=config.split,
            on_row=lambda: progress.advance(bar),
        )
    table = Table(title=f"{counts.read} rows read", show_header=False)
    table.add_row("kept", str(counts.kept))
    table.add_row("kept without some files", str(counts.incomplete))
    table.add_row("dropped", str(counts.dropped))
    table.add_row("files not there or not readable", str(counts.missing_files))
    for reason, number in counts.reasons.most_common(12):
        table.add_row("dropped because", Text(f"{number} x {reason}"))
    Console().print(table)
    return export_run(folder)


def main(config: ImportConfig) -> int:
    """The command `t3 import FORMAT INPUT`."""
    print(run_import(config))
    return 0
