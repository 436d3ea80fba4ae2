"""Trajectory tuning: TRL's trainers with labels on what a controller wrote."""

from typing import TYPE_CHECKING

from t3_agents.lazy import lazy_names


if TYPE_CHECKING:
    from .collators import TrajectoryCollator as TrajectoryCollator
    from .config import PreferenceConfig as PreferenceConfig
    from .config import TrajectoryConfig as TrajectoryConfig
    from .improvement import improve as improve
    from .sft import build_trainer as build_trainer
    from .sft import train as train


__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "collators": ["TrajectoryCollator"],
        "config": ["PreferenceConfig", "TrajectoryConfig"],
        "improvement": ["improve"],
        "sft": ["build_trainer", "train"],
    },
)
