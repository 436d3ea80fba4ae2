import subprocess
import sys
import threading

import pytest
from smolagents import tool as as_tool

from t3_agents.errors import InputError
from t3_agents.tools.inspect_file_as_text import InspectFileAsText
from t3_agents.tools.toolbox import make_toolbox, tool_from_record, tool_record
from t3_agents.tools.visualizer import Visualizer


SIGNATURES = {
    "ask_search_agent": ["query"],
    "visualizer": ["image_path", "question"],
    "inspect_file_as_text": ["file_path", "question"],
    "objectlocation": ["object", "image_path"],
    "facedetection": ["image_path"],
    "image_edit": ["prompt", "image_path"],
}


def test_names_and_signatures_are_those_of_the_released_data():
    assert {tool.name: list(tool.inputs) for tool in make_toolbox("embedded")} == SIGNATURES


def test_unknown_toolbox():
    with pytest.raises(InputError, match="no toolbox `other`"):
        make_toolbox("other")


def test_importing_the_toolbox_is_light():
    heavy = "torch transformers onnxruntime cv2 rapidocr kreuzberg bm25s openpyxl soundfile".split()
    code = "import sys; from t3_agents.tools.toolbox import make_toolbox; make_toolbox(); "
    code += f"print(set({heavy}) & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


@pytest.mark.parametrize("tool", make_toolbox("embedded"), ids=lambda tool: tool.name)
def test_records_make_the_same_tool(tool):
    record = tool_record(tool)
    again = tool_from_record(record)
    assert type(again) is type(tool) and again is not tool and tool_record(again) == record


def test_settings_are_kept():
    record = tool_record(Visualizer(max_chars=50))
    assert record == {"toolbox": "embedded", "name": "visualizer", "version": "1", "settings": {"max_chars": 50}}
    assert tool_from_record(record).settings == {"max_chars": 50}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"name": "telescope", "settings": {}}, "no tool `telescope`"),
        ({"name": "visualizer", "settings": {"zoom": 2}}, "no setting `zoom`"),
        ({"name": "visualizer", "settings": []}, "settings"),
        ({"name": "visualizer", "code": "print(1)"}, "unknown field `code`"),
        ({"settings": {}}, "name"),
        ({"name": "visualizer", "toolbox": "other"}, "no toolbox"),
        ([], "JSON object"),
    ],
)
def test_records_that_cannot_be_used(record, message):
    with pytest.raises(InputError, match=message):
        tool_from_record(record)


def test_a_tool_of_the_caller_is_not_saved():
    @as_tool
    def double(number: int) -> int:
        """Doubles.

        Args:
            number: what to double.
        """
        return 2 * number

    with pytest.raises(InputError, match="`double` is not of a toolbox"):
        tool_record(double)


def test_another_version_warns():
    with pytest.warns(UserWarning, match="version 0"):
        tool_from_record({"name": "visualizer", "version": "0"})


def test_without_a_workspace_paths_are_taken_as_they_are(tmp_path):
    (tmp_path / "note.txt").write_text("Meet at noon.")
    assert InspectFileAsText()(str(tmp_path / "note.txt")) == "Meet at noon."
    with pytest.raises(InputError, match="no file"):
        InspectFileAsText()("nothing.txt")


def test_threads_share_one_model(receipt):
    tool = Visualizer()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(tool(str(receipt), "total"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["Total 6.25"] * 4
