"""What is trained is what was run: the ids that a model saw and produced are those that the collator gives back."""

import pytest
import torch
from PIL import Image

from t3_agents.agent.agent import T3Agent
from t3_agents.models.engine.engine import Engine
from t3_agents.models.vlm import VLMModel
from t3_agents.storage import BlobStore
from t3_agents.task import File, Task
from t3_agents.trajectory import Trajectory
from tests.helpers.tiny_vlm import turn
from trainers.collators import IGNORE, TrajectoryCollator


class DictatedEngine(Engine):
    """Produces given ids, whatever it reads; everything around it is real."""

    def __init__(self, model, encoder, script):
        super().__init__(model, encoder)
        self.script = list(script)

    def generate(self, request):
        self._check_length(request)
        return self.script.pop(0)


class NotingModel(VLMModel):
    """Keeps what it saw and produced, call by call."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.generations = []

    def generate(self, messages, stop_sequences=None, **kwargs):
        message = super().generate(messages, stop_sequences, **kwargs)
        self.generations.append(message.raw)
        return message


@pytest.fixture
def model(tiny_vlm):
    return NotingModel.from_pretrained(tiny_vlm, max_new_tokens=20)


@pytest.fixture
def task(make_picture):
    pictures = (make_picture("photo.png", "red"), make_picture("wide.png", "blue", (90, 20)))
    return Task.create("What is <image> in <|im_end|> the pictures?", [*map(File.from_path, pictures)])


def letter_by_letter(model, text, end=False):
    """Ids that the tokenizer would not choose for this text."""
    ids = [token for char in text for token in model.processor.tokenizer(char)["input_ids"]]
    return [*ids, model.encoder.end_of_turn] if end else ids


def check(model, trajectory, tmp_path):
    """Compare the collated row, also after a way over the disk, with what the model saw and produced."""
    stored = trajectory.stored_in(BlobStore(tmp_path / "blobs"))
    read = Trajectory.from_dict(stored.to_dict(), BlobStore(tmp_path / "blobs"))
    for row in (trajectory.to_row(), read.to_row()):
        batch = TrajectoryCollator(model.encoder)([row])
        ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
        expected = [IGNORE] * len(ids)
        for generation in model.generations:
            seen, produced = list(generation.input_ids), list(generation.output_ids)
            assert ids[: len(seen) + len(produced)] == seen + produced
            expected[len(seen) : len(seen) + len(produced)] = produced
        assert labels == expected
        end = len(model.generations[-1].input_ids) + len(model.generations[-1].output_ids)
        if trajectory.answer is not None:
            # Only the end of the last turn, which the template writes, is left.
            assert len(ids) - end <= 2
        pixels = model.encoder.pixel_inputs([[image.open_image() for image in trajectory.images]])
        assert all(torch.equal(batch[name], pixels[name]) for name in pixels)
    return batch


def test_a_run_of_rubbish(model, task, tmp_path):
    """The tiny model writes what no tokenizer would cut the same way again, control tokens among it."""
    agent = T3Agent(tools=[], model=model, prompt="compact", max_steps=4, max_consecutive_errors=9)
    trajectory = agent.run_task(task)
    assert trajectory.end_reason == "max_steps" and len(model.generations) == 4
    text = [model.encoder.decode(g.output_ids) for g in model.generations]
    assert any(
        model.processor.tokenizer(t)["input_ids"] != list(g.output_ids)
        for t, g in zip(text, model.generations, strict=True)
    )
    check(model, trajectory, tmp_path)


def test_rubbish_that_is_sampled(tiny_vlm, task, tmp_path):
    for seed in range(3):
        model = NotingModel.from_pretrained(tiny_vlm, max_new_tokens=12, do_sample=True, temperature=3.0, seed=seed)
        agent = T3Agent(tools=[], model=model, prompt="compact", max_steps=3)
        check(model, agent.run_task(task), tmp_path / str(seed))


def test_a_conversation_with_pictures_and_every_kind_of_ending(model, task, tmp_path):
    draw = "from PIL import Image\nImage.new('RGB', (30, 40), 'green')"
    write = [
        (turn(draw), False),  # ended at the stop sequence
        (turn("print('<image> and <|im_start|>')"), True),  # ended by itself
        ("no code, words only", True),
        ("Thought: cut off\nCode:\n```py\nprint(1)", False),  # out of tokens, and never closed
        (turn("print('ü ☕')"), False),
        (turn("final_answer('<image>')"), False),
    ]
    model.engine = DictatedEngine(model.model, model.encoder, [letter_by_letter(model, *part) for part in write])
    agent = T3Agent(tools=[], model=model, prompt="compact", additional_authorized_imports=["PIL", "PIL.*"])
    trajectory = agent.run_task(task)
    assert trajectory.answer == "<image>" and len(trajectory.images) == 3
    assert [bool(step.error) for step in trajectory.steps] == [False, False, True, True, False, False]
    assert "was not closed" in trajectory.steps[3].error and trajectory.steps[4].observation == "ü ☕"
    batch = check(model, trajectory, tmp_path)
    with torch.inference_mode():
        assert model.model(**batch).loss.isfinite()


def test_a_turn_without_words(model, task, tmp_path):
    end = [model.encoder.end_of_turn]
    model.engine = DictatedEngine(
        model.model, model.encoder, [end, letter_by_letter(model, turn("final_answer(1)"), end=True)]
    )
    trajectory = T3Agent(tools=[], model=model, prompt="compact").run_task(task)
    assert trajectory.answer == "1" and "no code block" in trajectory.steps[0].error
    check(model, trajectory, tmp_path)


def test_a_script_is_trained_on_as_its_text(model, task):
    from t3_agents.models.scripted import ScriptedModel

    agent = T3Agent(tools=[], model=ScriptedModel([turn("print(1)"), turn("final_answer(1)")]), prompt="compact")
    batch = TrajectoryCollator(model.encoder)([agent.run_task(task).to_row()])
    trained = batch["labels"][0][batch["labels"][0] != IGNORE].tolist()
    assert model.processor.decode(trained) == f"{turn('print(1)')}<|im_end|>{turn('final_answer(1)')}<|im_end|>"


def test_the_collator_and_the_agent_open_the_same_picture(model, tmp_path):
    image = Image.new("RGB", (40, 20), "white")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    model.engine = DictatedEngine(model.model, model.encoder, [letter_by_letter(model, turn("final_answer(1)"))])
    task = Task.create("?", [File.from_path(tmp_path / "turned.jpg")])
    check(model, T3Agent(tools=[], model=model, prompt="compact").run_task(task), tmp_path)
