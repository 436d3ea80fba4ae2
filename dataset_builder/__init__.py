"""Tasks and trajectories out of a teacher, and the dataset that they become."""

from typing import TYPE_CHECKING

from t3_agents.lazy import lazy_names


if TYPE_CHECKING:
    from .build import build_dataset as build_dataset
    from .formats.reading import import_rows as import_rows
    from .formats.writing import export_rows as export_rows
    from .mm_traj import MMTraj as MMTraj
    from .scenarios.base import Scenario as Scenario


__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "build": ["build_dataset"],
        "formats.reading": ["import_rows"],
        "formats.writing": ["export_rows"],
        "mm_traj": ["MMTraj"],
        "scenarios.base": ["Scenario"],
    },
)

SPLITS = ("train", "validation", "test")
DOMAINS = (
    "finance culture history food environment health travel entertainment social science transportation geography "
    "technology sports nature others"
).split()
"""Domains of MM-Traj (arXiv 2412.15606)."""
