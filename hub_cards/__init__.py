"""Cards of agents and datasets, results on the Hub, and what is pushed there."""

from typing import TYPE_CHECKING

from t3_agents.lazy import lazy_names


if TYPE_CHECKING:
    from .dataset_card import make_dataset_card as make_dataset_card
    from .model_card import make_model_card as make_model_card
    from .publish import push as push


__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {"dataset_card": ["make_dataset_card"], "model_card": ["make_model_card"], "publish": ["push"]},
)
