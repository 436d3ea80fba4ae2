"""What the tests of several packages share. `turn` and `make_tiny_vlm` are imported from `tests.helpers.tiny_vlm`."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from PIL import Image


# Nothing in the tests is on the Hub; a look-up there would only cost time. `huggingface_hub` reads it when imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# The same for what libraries count of their use.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# A shell lets what it starts in the background ignore Ctrl+C, and the commands that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from tests.helpers.tiny_vlm import make_tiny_vlm  # noqa: E402


@pytest.fixture(scope="session")
def tiny_vlm(tmp_path_factory) -> Path:
    """Folder of a tiny Idefics3 model, loadable by `VLMModel.from_pretrained`. Do not write to it."""
    return make_tiny_vlm(tmp_path_factory.mktemp("tiny_vlm") / "model")


@pytest.fixture
def make_picture(tmp_path):
    """Write a picture of one color with a cross in it, and return its path."""

    def make_picture(name: str = "photo.png", color: str = "red", size: tuple[int, int] = (96, 64)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", size, color)
        for x in range(min(size)):
            image.putpixel((x, x), (0, 0, 0))
            image.putpixel((x, min(size) - 1 - x), (255, 255, 255))
        image.save(path)
        return path

    return make_picture


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first, so that no worker is left alone with one at the end."""
    items.sort(key=lambda item: item.path.name not in ("test_quickstart.py", "test_whole_way.py"))
