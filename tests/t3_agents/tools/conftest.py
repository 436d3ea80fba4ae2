"""Pictures and documents made with independent libraries, and tools in a workspace."""

from pathlib import Path

import matplotlib
import pytest
from PIL import Image, ImageDraw, ImageFont

from t3_agents.task import File
from t3_agents.workspace import Workspace


FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@pytest.fixture
def workspace(tmp_path):
    with Workspace(tmp_path / "run") as workspace:
        yield workspace


@pytest.fixture
def use(workspace):
    """Give a tool the workspace."""

    def use(tool):
        tool.workspace = workspace
        return tool

    return use


@pytest.fixture
def put(workspace):
    """Put a file of this machine into the workspace, without the checks that attachments go through."""

    def put(source, name=None):
        path = f"files/{name or Path(source).name}"
        target = workspace.root / path
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(source if isinstance(source, bytes) else Path(source).read_bytes())
        return path

    return put


@pytest.fixture
def attach(workspace):
    def attach(source):
        file = File.from_path(source)
        workspace.add(file)
        return file.path

    return attach


@pytest.fixture(scope="session")
def portrait():
    """A photo of one person, 512 x 600 pixels."""
    return Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


@pytest.fixture(scope="session")
def receipt(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "receipt.png"
    image = Image.new("RGB", (280, 260), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.truetype(str(FONT), 17)
    rows = [("CORNER SHOP", ""), ("Bread", "2.50"), ("Green tea", "3.75"), ("Total", "6.25")]
    for row, (name, price) in enumerate(rows):
        draw.text((20, 20 + 55 * row), name, fill="black", font=font)
        draw.text((200, 20 + 55 * row), price, fill="black", font=font)
    image.save(path)
    return path


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "shapes.png"
    image = Image.new("RGB", (300, 220), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((20, 20, 80, 80), fill="red")
    draw.ellipse((110, 20, 170, 80), fill="blue")
    draw.rectangle((210, 20, 270, 80), fill="red")
    draw.polygon([(20, 190), (60, 110), (100, 190)], fill="green")
    draw.rectangle((130, 130, 260, 170), fill="orange")
    draw.ellipse((20, 90, 60, 130), fill="red", outline="black", width=2)
    image.save(path)
    return path
