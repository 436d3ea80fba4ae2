"""The record of a run, and its rendering to chat messages."""

import json

import pytest

from t3_agents.errors import InputError
from t3_agents.storage import BlobStore
from t3_agents.task import File, Task
from t3_agents.trajectory import END_REASONS, FORMAT, Trajectory
from t3_agents.turns import Step, render_messages
from tests.helpers import png
from tests.helpers.tiny_vlm import turn


def picture(name, color="red"):
    return File.from_bytes(png(color), name)


@pytest.fixture
def trajectory():
    photo, made = picture("files/photo.png"), picture("outputs/image_1.png", "blue")
    table = File.from_bytes(b"a,b\n", "files/table.csv")
    return Trajectory(
        task=Task.create("What is it?", [photo, table], ground_truth="7", domain="life", origin={"family": "f"}),
        system_prompt="You solve tasks.",
        steps=[
            Step(
                model_output=turn("edit('files/photo.png')", "cut"),
                thought="cut",
                code="edit('files/photo.png')",
                observation="outputs/image_1.png",
                images=[1],
                tools=["edit"],
                output_ids=[4, 5, 6],
                input_tokens=10,
                output_tokens=3,
                seconds=0.5,
            ),
            Step(model_output="Thought: hm", thought="hm", error="no code block was found.", output_ids=[7]),
            Step(
                model_output=turn("final_answer(7)", "done"),
                thought="done",
                code="final_answer(7)",
                tools=["final_answer"],
                output_ids=[8, 9],
                is_final=True,
            ),
        ],
        images=[photo, made],
        answer="7",
        verification={"answer": {"passed": True, "reasons": []}},
        provenance={"controller": "scripted"},
    )


def texts(message):
    return [part["text"] for part in message["content"] if part["type"] == "text"]


class TestRecord:
    def test_round_trip(self, trajectory, tmp_path):
        blobs = BlobStore(tmp_path)
        stored = trajectory.stored_in(blobs)
        again = Trajectory.from_dict(json.loads(json.dumps(stored.to_dict())), blobs)
        assert again == trajectory
        assert again.to_messages() == trajectory.to_messages()
        assert [i.read_bytes() for i in again.images] == [i.read_bytes() for i in trajectory.images]
        assert again.to_row() == trajectory.to_row()

    @pytest.mark.parametrize("version", ["t3-trajectory/2", ""])
    def test_another_format_is_refused(self, trajectory, version):
        assert trajectory.to_dict()["format"] == FORMAT
        with pytest.raises(InputError, match=f"format `{version}`.*{FORMAT}"):
            Trajectory.from_dict({**trajectory.to_dict(), "format": version})

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("format", 1),
            ("task", []),
            ("system_prompt", None),
            ("steps", {}),
            ("images", "none"),
            ("answer", 7),
            ("end_reason", None),
            ("end_reason", "bored"),
            ("verification", []),
            ("provenance", "x"),
        ],
    )
    def test_a_wrong_type_names_the_field(self, trajectory, field, value):
        with pytest.raises(InputError, match=f"`{field}`"):
            Trajectory.from_dict({**trajectory.to_dict(), field: value})

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("kind", 1),
            ("kind", "dream"),
            ("model_output", None),
            ("thought", 2),
            ("code", []),
            ("observation", None),
            ("error", 3),
            ("images", 0),
            ("images", ["0"]),
            ("images", [True]),
            ("tools", "edit"),
            ("tools", [1]),
            ("output_ids", "1"),
            ("output_ids", [1.5]),
            ("is_final", 1),
            ("input_tokens", "3"),
            ("input_tokens", True),
            ("output_tokens", None),
            ("seconds", "fast"),
        ],
    )
    def test_a_wrong_type_in_a_step_names_the_field(self, field, value):
        with pytest.raises(InputError, match=f"`{field}`"):
            Step.from_dict({**Step().to_dict(), field: value})

    @pytest.mark.parametrize("name", ["task", "system_prompt", "steps", "images", "answer", "end_reason", "format"])
    def test_a_missing_field_is_named(self, trajectory, name):
        record = trajectory.to_dict()
        del record[name]
        with pytest.raises(InputError, match=f"no field `{name}`"):
            Trajectory.from_dict(record)

    def test_unknown_fields_are_named(self, trajectory):
        with pytest.raises(InputError, match="unknown field `reward`"):
            Trajectory.from_dict({**trajectory.to_dict(), "reward": 1})
        with pytest.raises(InputError, match="unknown field `reward`"):
            Step.from_dict({"reward": 1})

    @pytest.mark.parametrize("record", [None, [], 3])
    def test_a_record_must_be_an_object(self, record):
        with pytest.raises(InputError, match="JSON object"):
            Trajectory.from_dict(record)
        with pytest.raises(InputError, match="JSON object"):
            Step.from_dict(record)

    def test_values_that_json_has_not(self, trajectory):
        for value in (float("nan"), object(), b"bytes"):
            trajectory.provenance = {"x": value}
            with pytest.raises(InputError, match="JSON-safe"):
                trajectory.to_dict()


class TestPicturesComeUpOnceAndInOrder:
    @pytest.mark.parametrize("shown", [[[], [], []], [[0], [], []], [[1], [1], []], [[2], [], []], [[-1], [], []]])
    def test_pictures_that_no_step_or_two_steps_refer_to(self, trajectory, shown):
        for step, images in zip(trajectory.steps, shown, strict=True):
            step.images = images
        with pytest.raises(InputError, match="every picture must come up once, in order"):
            trajectory.to_dict()

    def test_pictures_out_of_order(self, trajectory):
        trajectory.images.append(picture("outputs/image_2.png"))
        trajectory.steps[0].images, trajectory.steps[1].images = [2], [1]
        with pytest.raises(InputError, match="in order"):
            trajectory.to_row()
        trajectory.steps[0].images, trajectory.steps[1].images = [1], [2]
        trajectory.to_row()

    @pytest.mark.parametrize("reason", END_REASONS)
    def test_known_end_reasons(self, trajectory, reason):
        trajectory.end_reason = reason
        assert Trajectory.from_dict(trajectory.to_dict()).end_reason == reason


class TestRenderer:
    def test_turns_of_a_run(self, trajectory):
        messages = trajectory.to_messages()
        assert [m["role"] for m in messages] == ["system", *["user", "assistant"] * 3]
        assert texts(messages[1]) == ["What is it?\nFiles: files/photo.png, files/table.csv"]
        assert [texts(m)[0] for m in messages if m["role"] == "assistant"] == [
            step.model_output for step in trajectory.steps
        ]
        assert texts(messages[3]) == ["Observation: outputs/image_1.png"]
        assert texts(messages[5]) == ["Observation: Error: no code block was found."]

    def test_a_picture_stands_where_it_came_up_before_the_words(self, trajectory):
        kinds = [[part["type"] for part in message["content"]] for message in trajectory.to_messages()]
        shown, words = ["image", "text"], ["text"]
        assert kinds == [words, shown, words, shown, words, words, words]

    def test_nothing_follows_the_final_step(self, trajectory):
        trajectory.steps[-1].observation = "printed on the way"
        assert trajectory.to_messages()[-1]["role"] == "assistant"

    def test_without_a_system_prompt_there_is_no_system_turn(self):
        assert [m["role"] for m in render_messages("", "?", 0, [])] == ["user"]

    def test_a_plan_is_an_assistant_turn(self):
        messages = render_messages(
            "s", "?", 0, [Step(kind="plan", model_output="First look."), Step(model_output="x")]
        )
        assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
        assert texts(messages[2]) == ["First look."] and "plan" in texts(messages[3])[0]

    def test_a_further_request_follows_the_final_step(self):
        steps = [
            Step(model_output="x", is_final=True),
            Step(kind="task", observation="And then?", images=[1]),
            Step(model_output="y", is_final=True),
        ]
        messages = render_messages("s", "?", 1, steps)
        assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant"]
        assert messages[3]["content"] == [{"type": "image"}, {"type": "text", "text": "And then?"}]

    def test_roles_alternate_whatever_the_steps_are(self):
        kinds = [
            Step(kind="plan", model_output="p"),
            Step(model_output="a", images=[0]),
            Step(model_output="", error="the model was silent"),
            Step(model_output="f", is_final=True),
            Step(kind="task", observation="t"),
        ]
        for first in kinds:
            for second in kinds:
                for third in kinds:
                    messages = render_messages("s", "?", 0, [first, second, third])
                    roles = [m["role"] for m in messages]
                    assert all(a != b for a, b in zip(roles, roles[1:], strict=False))
                    shown = sum(part["type"] == "image" for m in messages for part in m["content"])
                    assert shown == sum(len(step.images) for step in (first, second, third))

    @pytest.mark.parametrize(
        ("step", "text"),
        [
            (Step(), "Observation: nothing was printed."),
            (Step(observation=" 7\n"), "Observation: 7"),
            (Step(error="bad"), "Observation: Error: bad"),
            (Step(observation="7", error="bad\n"), "Observation: 7\nError: bad"),
        ],
    )
    def test_words_of_an_observation(self, step, text):
        assert step.observation_text() == text


class TestRow:
    def test_columns(self, trajectory):
        row = trajectory.to_row()
        assert row["id"] == trajectory.task.id
        assert row["messages"] == trajectory.to_messages()
        assert [image["bytes"] for image in row["images"]] == [image.read_bytes() for image in trajectory.images]
        assert [file["path"] for file in row["files"]] == ["files/table.csv"]
        assert row["files"][0]["bytes"] == b"a,b\n"
        assert [step["output_ids"] for step in row["steps"]] == [[4, 5, 6], [7], [8, 9]]
        assert [step["images"] for step in row["steps"]] == [[1], [], []]
        assert (row["answer"], row["ground_truth"], row["domain"], row["num_steps"]) == ("7", "7", "life", 3)
        assert row["tools"] == ["edit", "final_answer"]
        assert row["provenance"] == {"controller": "scripted", "origin": {"family": "f"}, "end_reason": "answer"}

    def test_plans_are_no_steps(self, trajectory):
        trajectory.steps.insert(0, Step(kind="plan", model_output="First look."))
        row = trajectory.to_row()
        assert row["num_steps"] == len(row["steps"]) == 3
        assert sum(m["role"] == "assistant" for m in row["messages"]) == 4

    def test_a_row_needs_the_bytes(self, trajectory):
        with pytest.raises(InputError, match="not at hand"):
            Trajectory.from_dict(trajectory.to_dict()).to_row()
