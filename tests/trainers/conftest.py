"""What the tests of training share."""

from __future__ import annotations

import pytest
from transformers import AutoProcessor

from t3_agents.models.encoding import ChatEncoder


@pytest.fixture(scope="session")
def encoder(tiny_vlm) -> ChatEncoder:
    return ChatEncoder(AutoProcessor.from_pretrained(tiny_vlm))
