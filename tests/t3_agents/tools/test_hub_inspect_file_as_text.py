"""The backend of `inspect_file_as_text` with models: a real Whisper, a real vision-language model, a real endpoint."""

import zipfile

import numpy as np
import pytest

from t3_agents.errors import InputError
from t3_agents.models.scripted import ScriptedModel
from t3_agents.tools.hub_models.shared_models import choose_model, hub_model
from t3_agents.tools.inspect_file_as_text import HubInspectFileAsText, InspectFileAsText
from t3_agents.tools.local.speech import CHUNK_SECONDS, SAMPLE_RATE, split
from tests.helpers import DATA
from tests.helpers.chat_server import ChatServer
from tests.helpers.tiny_whisper import make_tiny_whisper


FILES = DATA / "made_by_others"


def test_an_endpoint_answers_a_question_about_the_text(use, put):
    with ChatServer([" It costs 19.90. "] * 2) as endpoint:
        tool = use(HubInspectFileAsText(model="reader", api_base=endpoint.url, max_chars=300))
        path = put(b"name,price\nLamp,19.90\nDesk,149.00\n", "t.csv")
        assert tool(path) == "name,price\nLamp,19.90\nDesk,149.00" and not endpoint.requests
        assert tool(path, "What does the lamp cost?") == "It costs 19.90."
        rows = "".join(f"item {n},{n * 2}\n" for n in range(1000))
        assert tool(put(f"name,price\n{rows}".encode(), "long.csv"), "price of item 777") == "It costs 19.90."
    first, second = (str(request["messages"][-1]["content"]) for request in endpoint.requests)
    assert repr("Lamp,19.90\nDesk,149.00\n\nQuestion: What does the lamp cost?")[1:-1] in first
    assert repr("Text:\nname,price\nitem 777,1554\n\n")[1:-1] in second


def test_the_controller_answers_a_question(use, put):
    tool = use(HubInspectFileAsText())
    path = put(b"Meet at noon.", "t.txt")
    with pytest.raises(InputError, match="belongs to no agent: give it to an agent, or make it with"):
        tool(path, "When?")
    tool.controller = ScriptedModel(["At noon."])
    assert tool(path, "When do we meet?") == "At noon."
    assert tool(path) == "Meet at noon."


def test_a_local_model_answers_a_question(use, put, tiny_vlm):
    tool = use(HubInspectFileAsText(model=str(tiny_vlm)))
    answer = tool(put(b"Meet at noon.", "t.txt"), "When do we meet?")
    model = choose_model(None, str(tiny_vlm))
    prompt = [{"role": "user", "content": [{"type": "text", "text": ""}]}]
    prompt[0]["content"][0]["text"] = (
        "Answer the question from the text of a file. Be short and exact; say so if the text does not tell.\n\n"
        "Text:\nMeet at noon.\n\nQuestion: When do we meet?"
    )
    assert answer and answer == model.generate(prompt).content.strip()


@pytest.fixture(scope="session")
def tiny_whisper(tmp_path_factory):
    return make_tiny_whisper(tmp_path_factory.mktemp("tiny_whisper") / "model")


@pytest.fixture
def long_recording(tmp_path):
    """A sentence at the start and after forty seconds, at 22,050 samples a second."""
    soundfile = pytest.importorskip("soundfile")
    samples, rate = soundfile.read(FILES / "ffmpeg.mp3")
    gap = np.zeros(40 * rate - len(samples))
    soundfile.write(tmp_path / "long.wav", np.concatenate([samples, gap, samples]), rate)
    return tmp_path / "long.wav"


def test_speech_with_a_model_of_transformers(use, put, tiny_whisper, long_recording):
    tool = use(HubInspectFileAsText(speech_model=str(tiny_whisper)))
    soundfile = pytest.importorskip("soundfile")
    hub = hub_model("AutoModelForSpeechSeq2Seq", str(tiny_whisper))
    samples = soundfile.read(FILES / "sox.flac", dtype="int16")[0].astype(np.float32) / 32767
    features = hub.processor(samples, sampling_rate=16000, return_tensors="pt", return_attention_mask=True)
    expected = hub.processor.batch_decode(hub.model.generate(**features), skip_special_tokens=True)[0]
    assert tool(put(FILES / "sox.flac")) == f"Transcript (may hold mistakes): {expected.strip()}"
    lines = tool(put(long_recording)).splitlines()
    assert lines[0].startswith("Transcript (may hold mistakes), each part with the minute and second")
    assert [line[:5] for line in lines[1:]] == ["[0:00", "[0:20"]
    with pytest.raises(InputError, match="cannot be loaded"):
        HubInspectFileAsText(speech_model="no/such-model")(str(FILES / "sox.flac"))


@pytest.mark.slow
def test_long_speech_is_cut_in_silence_and_has_times(use, put, long_recording):
    tool = use(InspectFileAsText())
    path = put(long_recording)
    assert tool(path).splitlines() == [
        "Transcript (may hold mistakes), each part with the minute and second of its start:",
        "[0:00] the meeting starts at nine",
        "[0:20] the meeting starts at nine",
    ]


@pytest.mark.slow
def test_only_the_start_of_a_very_long_recording_is_transcribed(put, use, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    samples, rate = soundfile.read(FILES / "sox.flac")
    gap = np.zeros(InspectFileAsText.max_sound_seconds * rate)
    soundfile.write(tmp_path / "long.flac", np.concatenate([samples, gap]), rate)
    tool = use(InspectFileAsText())
    lines = tool(put(tmp_path / "long.flac")).splitlines()
    assert lines[1:] == ["[0:00] the meeting starts at nine", "[only the first 180 of 182 seconds were transcribed]"]


def test_recordings_in_an_archive(use, put, tmp_path, tiny_whisper):
    with zipfile.ZipFile(tmp_path / "talks.zip", "w") as archive:
        for name in ("one.flac", "two.flac"):
            archive.write(FILES / "sox.flac", name)
    tool = use(HubInspectFileAsText(speech_model=str(tiny_whisper)))
    tool.max_sound_seconds = 1
    lines = tool(put(tmp_path / "talks.zip")).splitlines()
    assert lines[2] == "one.flac:" and lines[3].startswith("Transcript") and lines[4] == "two.flac:"
    assert lines[-1] == "[a recording of 2 seconds was not transcribed]"


def test_chunks_hold_every_sample_once_and_end_where_it_is_quiet():
    rng = np.random.default_rng(0)
    samples = rng.uniform(-0.5, 0.5, 100 * SAMPLE_RATE).astype(np.float32)
    quiet = slice(25 * SAMPLE_RATE, 26 * SAMPLE_RATE)
    samples[quiet] *= 0.01
    chunks = list(split(samples))
    assert np.array_equal(np.concatenate([chunk for _, chunk in chunks]), samples)
    assert all(0 < len(chunk) <= CHUNK_SECONDS * SAMPLE_RATE for _, chunk in chunks)
    assert 25 < chunks[1][0] < 26
