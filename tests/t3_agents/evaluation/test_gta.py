"""GTA from files to results, with a controller whose score is known by construction."""

import json
import shutil
import zipfile

import pytest
from smolagents import CodeAgent, tool

from t3_agents.agent.agent import T3Agent
from t3_agents.errors import InputError
from t3_agents.evaluation.config import ScoreConfig
from t3_agents.evaluation.gta.benchmark import GTAConfig, load_gta
from t3_agents.evaluation.gta.steps import predicted_turn
from t3_agents.evaluation.results import read_results, read_scores, read_trajectories
from t3_agents.evaluation.run import evaluate, score_run
from t3_agents.models.scripted import ScriptedModel
from tests.helpers.made_benchmarks import (
    GTA_INPUTS,
    GTA_ROWS,
    Script,
    draw,
    gta_agent,
    gta_row,
    gta_script,
    made_tool,
    make_gta,
    say,
    step_script,
)


pytest.importorskip("sentence_transformers")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_gta(tmp_path_factory.mktemp("gta") / "made-gta")


@pytest.fixture(scope="module")
def embedding(tmp_path_factory):
    """A sentence-embedding model with random weights: equal texts have similarity 1, others any."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("embedding")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz0123456789.,:(){}'\"/_ "]
    words += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    BertModel(config).save_pretrained(folder / "bert")
    transformer = Transformer(str(folder / "bert"))
    SentenceTransformer(modules=[transformer, Pooling(32)]).save(str(folder / "tiny-embedding"))
    return str(folder / "tiny-embedding")


def config(data, output, embedding, **options):
    return GTAConfig(
        agent="script", output=str(output), dataset=str(data), embedding_model=embedding, num_workers=4, **options
    )


@pytest.fixture(scope="module")
def run(data, embedding, tmp_path_factory):
    output, model = tmp_path_factory.mktemp("runs") / "run", gta_script()
    return output, evaluate(config(data, output, embedding), lambda: gta_agent(model))


def values(results):
    return {name: metric["value"] for name, metric in results["metrics"].items()}


def f1(found, predicted, expected):
    precision, recall = found / (predicted + 1e-5), found / expected
    return 2 * precision * recall / (precision + recall + 1e-5)


def test_end_to_end_the_score_is_the_constructed_one(run):
    output, results = run
    assert values(results) == pytest.approx(
        {
            "ans_acc": 9 / 16,
            "ans_acc_image": 11 / 20,
            "f1_perception": f1(11, 12, 14),
            "f1_operation": f1(2, 2, 4),
            "f1_logic": f1(2, 2, 2),
            "f1_creativity": f1(2, 2, 2),
            "tool_acc": 17 / 22,
            "code_exec": 43 / 45,
        },
        abs=1e-5,
    )
    assert results == read_results(output)
    assert results["num_tasks"] == 20
    assert results["errors"] == {"gave_up": 2, "wrong_summary": 3, "wrong_tool": 1}
    assert results["scoring"] == "official"
    assert results["scoring_details"]["embedding_model"] == "tiny-embedding"
    assert results["scoring_details"]["unscored"] == {"open": 0, "picture": 0}
    assert results["breakdown"]["answer"]["closed"]["ans_acc"]["value"] == pytest.approx(7 / 12)
    low, high = results["metrics"]["ans_acc"]["ci95"]
    assert 0.25 < low < 9 / 16 < high < 0.85
    assert results["dataset"]["name"] == "made-gta"
    assert str(output) not in json.dumps(results)


def test_every_task_has_a_row_with_its_reason(run):
    output, _ = run
    rows = {score.task_id: score for score in read_scores(output)}
    assert sorted(rows) == list(rows)
    assert {row for row, score in rows.items() if score.correct} == {"0", "1", "4", "7", "8", "9", "10"}
    assert rows["6"].reason == rows["14"].reason == "max_steps"
    assert rows["12"].correct is None
    assert rows["12"].counts["ans_acc"] == pytest.approx([1, 1], abs=1e-5)
    usage = {"input_tokens": 200, "output_tokens": 20, "seconds": rows["0"].usage["seconds"], "cost": None}
    assert rows["0"].usage == usage


def test_the_papers_looser_scoring_of_the_same_run(run, tmp_path):
    output = shutil.copytree(run[0], tmp_path / "copy")
    results = score_run(ScoreConfig(run=str(output), scoring="paper", input_price=1.0, output_price=10.0))
    # The blacklist hit and the number inside a number count as right; open answers and pictures are left out.
    assert values(results)["ans_acc"] == pytest.approx(9 / 12)
    assert results["scoring"] == "paper"
    assert results["scoring_details"]["unscored"] == {"open": 4, "picture": 4}
    assert "ans_acc_image" not in results["metrics"]
    total = results["usage"]["total"]
    assert total["input_tokens"] == 4500
    assert total["cost"] == pytest.approx(4500e-6 + 450 * 10e-6)
    assert score_run(ScoreConfig(run=str(output), embedding_model="none"))["metrics"]["ans_acc"]["n"] == 12


def test_step_by_step_the_score_is_the_constructed_one(data, embedding, tmp_path):
    model = step_script()
    results = evaluate(config(data, tmp_path / "run", embedding, mode="step_by_step"), lambda: gta_agent(model))
    # As in the benchmark's evaluator, the answers of the four pictures count as followed, but not as turns.
    assert values(results) == pytest.approx(
        {"inst_acc": 40 / 38, "tool_acc": 20 / 22, "arg_acc": 19 / 22, "summ_acc": 14 / 16}, abs=1e-5
    )
    assert model.calls == 42
    assert results["mode"] == "step_by_step"
    assert results["num_tasks"] == 20
    again = score_run(ScoreConfig(run=str(tmp_path / "run"), embedding_model=embedding))
    assert again["metrics"] == results["metrics"]
    steps = {t.task.id: t for t in read_trajectories(tmp_path / "run")}
    assert set(steps) >= {"0.0", "0.1", "10.2"}
    # The past of a step is the solution.
    last = steps["10.2"]
    assert [step.tools for step in last.steps[:-1]] == [["Calculator"], ["GoogleSearch"]]
    assert last.steps[0].code == "print(Calculator(expression='2+3'))"
    assert last.steps[1].observation == "GoogleSearch saw 5"
    assert last.answer == "5"


def test_a_stock_code_agent_is_a_baseline(data, embedding, tmp_path):
    model, tools = gta_script(), [made_tool(name) for name in GTA_INPUTS]

    def make():
        # The script writes the tags of the released data; the tools are shared by the workers.
        return CodeAgent(tools, model, code_block_tags=("```py", "```<end_action>"), max_steps=4, verbosity_level=0)

    results = evaluate(config(data, tmp_path / "run", embedding, scoring="official"), make)
    # At the limit of steps smolagents asks for an answer, so that the two that think on give one, which is wrong.
    assert results["breakdown"]["answer"]["closed"]["ans_acc"]["value"] == pytest.approx(7 / 12)
    assert values(results)["tool_acc"] == pytest.approx(17 / 22)
    assert values(results)["f1_logic"] == pytest.approx(f1(2, 2, 2))
    trajectories = read_trajectories(tmp_path / "run")
    assert {t.provenance["prompt"] for t in trajectories} == {"smolagents"}
    text = (tmp_path / "run" / "trajectories.jsonl").read_text()
    assert "/t3-" not in text
    assert all(len(t.images) == 1 for t in trajectories)


class TestLoading:
    def test_the_rows(self, data):
        loaded = load_gta(data)
        assert [task.id for task in loaded.tasks] == [str(number) for number in range(20)]
        assert not loaded.bad
        task = loaded.tasks[10]
        assert task.query == "This is made question 10: what is it?"
        assert [file.path for file in task.files] == ["image/photo.png"]
        assert task.tools == ("Calculator", "GoogleSearch")

    def test_a_zip_with_a_folder_in_it(self, data, tmp_path, monkeypatch):
        monkeypatch.setenv("T3_CACHE", str(tmp_path / "cache"))
        archive = shutil.make_archive(str(tmp_path / "gta_dataset"), "zip", data.parent, data.name)
        assert [task.to_dict() for task in load_gta(archive).tasks] == [t.to_dict() for t in load_gta(data).tasks]
        assert len(list((tmp_path / "cache" / "benchmarks").iterdir())) == 1
        load_gta(archive)

    @pytest.mark.parametrize(
        ("name", "attributes", "words"),
        [
            *((name, 0, "leads out of it") for name in ("../evil", "/evil", "a/../../evil", "a\\..\\evil", "c:evil")),
            ("dataset.json", 0o120777 << 16, "has the link"),
            (None, 0, "not a readable zip"),
        ],
    )
    def test_archives_that_are_refused(self, tmp_path, monkeypatch, name, attributes, words):
        monkeypatch.setenv("T3_CACHE", str(tmp_path / "cache"))
        (tmp_path / "bad.zip").write_bytes(b"PK not really")
        if name:
            member = zipfile.ZipInfo(name)
            member.external_attr = attributes
            with zipfile.ZipFile(tmp_path / "bad.zip", "w") as packed:
                packed.writestr(member, "/etc/passwd")
        with pytest.raises(InputError, match=words):
            load_gta(tmp_path / "bad.zip")
        assert not list(tmp_path.rglob("evil*"))

    def test_a_name_that_cannot_be_found_says_what_to_do(self, tmp_path):
        with pytest.raises(InputError, match="gta_dataset.zip"):
            load_gta(tmp_path / "nothing")

    @pytest.mark.parametrize(
        ("file", "text", "words"),
        [
            *(("dataset.json", text, "JSON|no rows") for text in ("{", "[]", '"rows"', "{}")),
            ("dataset.json", None, "no dataset.json"),
            ("toolmeta.json", None, "toolmeta.json"),
        ],
    )
    def test_files_that_are_broken_or_missing(self, data, tmp_path, file, text, words):
        folder = shutil.copytree(data, tmp_path / "gta")
        (folder / file).unlink() if text is None else (folder / file).write_text(text)
        with pytest.raises(InputError, match=words):
            load_gta(folder)

    def test_a_second_request_ends_the_solution(self, data, tmp_path):
        folder = shutil.copytree(data, tmp_path / "gta")
        row = gta_row(0)
        row["dialogs"] += [{"role": "user", "content": "And now?"}, {"role": "assistant", "content": "6"}]
        (folder / "dataset.json").write_text(json.dumps({"0": row}))
        (task,) = load_gta(folder).tasks
        assert task.origin["solution"][-1]["content"] == "5"


def set_in(*path, value):
    def change(row):
        for key in path[:-1]:
            row = row[key]
        row[path[-1]] = value

    return change


BAD = {
    "missing picture": (set_in("files", 0, "path", value="image/none.png"), "no file image/none.png"),
    "picture outside": (set_in("files", 0, "path", value="../../etc/passwd"), "not a path inside"),
    "no picture": (set_in("files", 0, "path", value="toolmeta.json"), "is no picture"),
    "torn picture": (set_in("files", 0, "path", value="image/torn.png"), "not a readable image"),
    "empty picture": (set_in("files", 0, "path", value="image/empty.png"), "0 bytes"),
    "file without a path": (set_in("files", 0, value={}), "no path"),
    "files are no list": (set_in("files", value="image/photo.png"), "`files`"),
    "unknown tool": (set_in("tools", 0, "name", value="Segment"), "Segment is not in toolmeta.json"),
    "tools are no objects": (set_in("tools", value=["OCR"]), "`tools`"),
    "unknown call": (set_in("dialogs", 1, "tool_calls", 0, "function", "name", value="Segment"), "Segment"),
    "call without arguments": (set_in("dialogs", 1, "tool_calls", 0, "function", "arguments", value="x"), "a call"),
    "empty calls": (set_in("dialogs", 1, "tool_calls", value=[]), "a call"),
    "empty query": (set_in("dialogs", 0, "content", value="  "), "query is empty"),
    "query of a wrong type": (set_in("dialogs", 0, "content", value=5), "query is empty"),
    "no dialog": (set_in("dialogs", value=[]), "does not begin with the user"),
    "assistant first": (lambda row: row["dialogs"].pop(0), "does not begin with the user"),
    "no assistant": (set_in("dialogs", value=[{"role": "user", "content": "Hm?"}]), "no turn of the assistant"),
    "unknown role": (set_in("dialogs", 1, "role", value="robot"), "role robot"),
    "turn without text": (set_in("dialogs", -1, "content", value=None), "neither a call nor text"),
    "answer of a wrong type": (set_in("gt_answer", value=5), "known answer"),
    "alias that is no text": (set_in("gt_answer", value={"whitelist": [[5]]}), "alias"),
    "whitelist of a wrong form": (set_in("gt_answer", value={"whitelist": ["5"]}), "whitelist"),
    "blacklist of a wrong form": (set_in("gt_answer", value={"whitelist": [["5"]], "blacklist": ["6"]}), "blacklist"),
    "open answer of a wrong form": (set_in("gt_answer", value=[["5"]]), "list of texts"),
    "no answer field": (lambda row: row.pop("gt_answer"), "no `gt_answer`"),
}


@pytest.fixture
def bad_data(data, tmp_path):
    folder = shutil.copytree(data, tmp_path / "gta")
    whole = draw(folder / "image" / "whole.png").read_bytes()
    (folder / "image" / "torn.png").write_bytes(whole[: len(whole) // 2])
    (folder / "image" / "empty.png").write_bytes(b"")
    rows = [(f"row-{name.replace(' ', '-')}", gta_row(0)) for name in BAD]
    for (_, row), (change, _) in zip(rows, BAD.values(), strict=True):
        change(row)
    rows += [("good", gta_row(1)), ("no-object", 5), ("twice", gta_row(2)), ("twice", gta_row(3))]
    (folder / "dataset.json").write_text("{" + ",".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in rows) + "}")
    return folder


def test_all_bad_rows_are_named_before_anything_runs(bad_data, embedding, tmp_path):
    def refuse():
        raise AssertionError("an agent was made")

    with pytest.raises(InputError) as refusal:
        evaluate(config(bad_data, tmp_path / "run", embedding), refuse)
    lines = {line.split(":")[0].strip(): line for line in str(refusal.value).split("\n")[1:]}
    for name, (_, reason) in BAD.items():
        assert reason in lines[f"row-{name.replace(' ', '-')}"]
    assert "no object" in lines["no-object"]
    assert "twice" in lines["twice"]
    assert "good" not in lines
    assert str(refusal.value).startswith(f"{len(BAD) + 2} rows of gta")
    assert not (tmp_path / "run").exists()


def test_bad_rows_may_be_left_out_and_are_counted(bad_data, embedding, tmp_path):
    model = ScriptedModel(["```py\nfinal_answer(5)\n```<end_action>"])
    results = evaluate(config(bad_data, tmp_path / "run", embedding, skip_bad_rows=True), lambda: gta_agent(model))
    assert results["num_tasks"] == 1
    assert results["scoring_details"]["skipped_rows"] == len(BAD) + 2


class TestRefusals:
    def test_an_embedding_model_that_cannot_be_loaded_stops_before_the_run(self, data, tmp_path):
        with pytest.raises(InputError, match="--embedding-model embedded"):
            evaluate(config(data, tmp_path / "run", str(tmp_path / "no-model")), lambda: gta_agent(gta_script()))
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"scoring": "strict"}, "one of official, paper, not `strict`"),
            ({"mode": "steps"}, "one of end_to_end, step_by_step, not `steps`"),
            ({"mode": "step_by_step", "scoring": "paper"}, "whole runs"),
            ({"seeds": []}, "seeds"),
            ({"seeds": [1, 1]}, "seeds"),
            ({"limit": 0}, "limit"),
            ({"input_price": 1.0}, "both prices"),
        ],
    )
    def test_options_that_do_not_fit(self, data, embedding, tmp_path, options, words):
        with pytest.raises(InputError, match=words):
            evaluate(config(data, tmp_path / "run", embedding, **options), lambda: gta_agent(gta_script()))

    def test_several_seeds_without_sampling(self, data, embedding, tmp_path):
        with pytest.raises(InputError, match="temperature"):
            evaluate(config(data, tmp_path / "run", embedding, seeds=[0, 1]))

    def test_step_by_step_with_other_tools(self, data, embedding, tmp_path):
        steps = config(data, tmp_path / "run", embedding, mode="step_by_step")
        with pytest.raises(InputError, match="--toolbox gta"):
            evaluate(steps, lambda: T3Agent([], step_script(), prompt="compact"))


WRITTEN = [
    ("print(OCR(image='a.png'))", "OCR", {"image": "a.png"}),
    ("x = OCR('a.png')\nprint(x)", "OCR", {"image": "a.png"}),
    ("path = 'a.png'\nOCR(image=path)", "OCR", {"image": "a.png"}),
    ("OCR(image=f'{x}.png')", "OCR", {"image": "f'{x}.png'"}),
    ("DrawBox('a.png', bbox=str((1, 2)))", "DrawBox", {"image": "a.png", "bbox": "str((1, 2))"}),
    ("TextToBbox(image='a', text='b', top1=True)", "TextToBbox", {"image": "a", "text": "b", "top1": True}),
    ("final_answer(Calculator('2+3'))", "Calculator", {"expression": "2+3"}),
    ("Calculator(expression=OCR('a'))", "OCR", {"image": "a"}),
    ("OCR(image='a'); Calculator('1')", "OCR", {"image": "a"}),
    ("GoogleSearch(query='x', k=-4)", "GoogleSearch", {"query": "x", "k": -4}),
]


@pytest.mark.parametrize(("code", "name", "arguments"), WRITTEN)
def test_the_first_call_that_is_written(code, name, arguments):
    function = predicted_turn(code, GTA_INPUTS)["tool_calls"][0]["function"]
    assert function == {"name": name, "arguments": arguments}


@pytest.mark.parametrize("code", ["", "  ", "print((", "print(5)", "Segment(image='a')", "x = 5"])
def test_code_without_a_call_is_an_error(code):
    turn = predicted_turn(code, GTA_INPUTS)
    assert turn["error"]
    assert turn["tool_calls"][0]["function"]["name"] == ""


@pytest.mark.parametrize(
    ("code", "answer"),
    [("final_answer('5')", "5"), ("final_answer(answer=5)", "5"), ("a = 'x'\nfinal_answer(a)", "x")],
)
def test_the_answer_that_is_written(code, answer):
    assert predicted_turn(code, GTA_INPUTS) == {"role": "assistant", "content": answer}


def test_another_toolbox_is_scored_by_the_written_mapping(data, embedding, tmp_path):
    @tool
    def visualizer(image_path: str, question: str) -> str:
        """Answers a question about a picture.

        Args:
            image_path: the picture.
            question: the question.
        """
        return "5"

    look = "```py\nprint(visualizer('image/photo.png', 'What is it?'))\n```<end_action>"
    model = Script({number: [look, say("5")] for number in range(len(GTA_ROWS))})
    settings = config(data, tmp_path / "run", embedding)
    results = evaluate(settings, lambda: T3Agent([visualizer], model, prompt="compact"))
    # A look does the work of OCR (10 tasks) and ImageDescription (4); Python does that of Calculator (2 calls).
    assert values(results)["tool_acc"] == pytest.approx(14 / 20)
    assert results["metrics"]["tool_acc"]["n"] == 10 + 2 + 4 + 4
    # Names and arguments of GTA's tools are not there to be compared.
    assert set(results["metrics"]) == {"ans_acc", "tool_acc", "code_exec"}
    assert results["scoring_details"]["unscored"] == {"open": 0, "picture": 4}
