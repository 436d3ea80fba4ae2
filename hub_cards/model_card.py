"""Model cards of agents, from the files that tuning and evaluation left. No number in a card is typed in."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from t3_agents.errors import InputError
from t3_agents.hub.safe_loading import read_json

from .dataset_card import PAPER_URL, escape, table
from .eval_results import METRIC_NAMES, make_model_index, read_results
from .facts import Facts, without_machine


TEMPLATE = Path(__file__).parent / "templates" / "model_card.md"
EMBEDDED = "embedded"
EMBEDDED_BASE = ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")
"""What the offline controller is made from, and its licence; see `t3_agents/models/embedded.py`."""
AGENT, ADAPTER, MODEL = "t3_agent.json", "adapter_config.json", "config.json"
RECIPE, TRAINING, REPORT, DATASET = "run/recipe.json", "run/train.json", "run/report.json", "run/dataset.json"
_BULK = ("columns", "examples", "dataset_info", "hub_configs")


@dataclass
class AgentRun:
    """The files that a card is written from.

    Args:
        agent (`Path`): folder of the agent.
        facts ([`Facts`]): JSON files by the path that they get in the repository.
        plots (`dict[str, Path]`): pictures by their path in the repository.
        evaluations (`list[tuple[str, str]]`): label and file in `facts` of each evaluation.
    """

    agent: Path
    facts: Facts
    plots: dict[str, Path] = field(default_factory=dict)
    evaluations: list[tuple[str, str]] = field(default_factory=list)


def read_run(source: str | Path, results: list[Path] | None = None, untuned: list[Path] | None = None) -> AgentRun:
    """Find what there is about an agent.

    Args:
        source (`str` or `Path`): folder of a saved agent, of `t3 train`, or of `t3 quickstart`. What lies around an
            agent that such a run made is found too.
        results (`list[Path]`, *optional*): finished evaluations of the agent.
        untuned (`list[Path]`, *optional*): finished evaluations of its controller before tuning.

    Raises:
        InputError: when there is no agent, or an evaluation is not finished.
    """
    source = Path(source)
    places = [source, source / "agent", source / "train" / "agent"]
    agent = next((place.resolve() for place in places if (place / AGENT).is_file()), None)
    if agent is None:
        raise InputError(f"{source} holds no agent (no {AGENT} there, in agent/ or in train/agent/).")
    found = {name: read_json(agent / name) for name in (AGENT, ADAPTER, MODEL) if (agent / name).is_file()}
    training = agent.parent
    run = AgentRun(agent, Facts(found))
    if agent.name == "agent" and (training / "train.json").is_file():
        found[TRAINING] = read_json(training / "train.json")
        found[RECIPE] = without_machine(read_json(training / "settings.json"))
        if (training / "loss.png").is_file():
            run.plots["run/loss.png"] = training / "loss.png"
        quickstart = training.parent
        if training.name == "train" and (quickstart / "report.json").is_file():
            found[REPORT] = read_json(quickstart / "report.json")
            if (quickstart / "families.png").is_file():
                run.plots["run/families.png"] = quickstart / "families.png"
            statistics = quickstart / "dataset" / "statistics.json"
            if statistics.is_file():
                found[DATASET] = {k: v for k, v in read_json(statistics).items() if k not in _BULK}
    for label, folders in (("this agent", results or []), ("untuned", untuned or [])):
        for number, folder in enumerate(folders):
            path = f"run/results/{'tuned' if label == 'this agent' else 'untuned'}-{number}.json"
            found[path] = without_machine(read_results(folder))
            run.evaluations.append((label, path))
    return run


def make_card(
    run: AgentRun,
    repo_id: str,
    dataset: str | None = None,
    license: str | None = None,
    report_url: str = "",
) -> ModelCard:
    """The card of an agent.

    Args:
        run ([`AgentRun`]): what it is written from.
        repo_id (`str`): where it will be.
        dataset (`str`, *optional*): Hub id of the dataset that it was tuned on.
        license (`str`, *optional*): Hub id of the licence; that of the embedded controller when it is made from it.
        report_url (`str`, *optional*): address of the evaluation's report, for the results.
    """
    facts = run.facts
    base, relation, base_license = _base(facts)
    index: list[EvalResult] = []
    for label, path in run.evaluations:
        if label == "this agent":
            index += make_model_index(facts.files[path], None, report_url)
    card_data = ModelCardData(
        language="en",
        license=license or base_license,
        library_name="peft" if ADAPTER in facts.files else "transformers",
        pipeline_tag="image-text-to-text",
        base_model=base,
        base_model_relation=relation,
        datasets=[dataset] if dataset else None,
        tags=["agent", "code-agent", "tool-use", "smolagents", "t3-agents", "multimodal", "arxiv:2412.15606"],
        model_name=repo_id.partition("/")[2] if index else None,
        eval_results=index or None,
    )
    tools = [str(record.get("name")) for record in facts.get(AGENT, "tools") or []]
    sections = {
        "training": _training(facts),
        "data_table": _data(facts),
        "report_table": _report(facts),
        "results": [_results(facts, run.evaluations, benchmark) for benchmark in _benchmarks(run)],
        "times": _times(facts),
        "limits": _limits(facts),
    }
    return ModelCard.from_template(
        card_data,
        template_path=str(TEMPLATE),
        repo_id=repo_id,
        name=escape(repo_id.partition("/")[2]),
        paper_url=PAPER_URL,
        base=base,
        base_revision=facts.get(AGENT, "controller.revision"),
        is_adapter=ADAPTER in facts.files,
        is_embedded=facts.get(RECIPE, "controller") == EMBEDDED,
        model_type=escape(facts.get(MODEL, "model_type") or "vision-language model"),
        dataset=dataset,
        prompt=escape(facts.get(AGENT, "prompt")),
        max_steps=facts.show(AGENT, "max_steps"),
        tools=", ".join(f"`{name}`" for name in tools),
        plots=sorted(run.plots),
        **sections,
        # Last: the sections above note what they show.
        sources_table=table(["number", "file", "key"], [[t, f"`{f}`", f"`{k}`"] for t, f, k in sorted(facts.shown)]),
    )


def _base(facts: Facts) -> tuple[str | None, str | None, str | None]:
    """Base model, how this one was made from it, and a licence that is known."""
    base = facts.get(AGENT, "controller.base") or facts.get(ADAPTER, "base_model_name_or_path")
    if base:
        return base, "adapter", None
    controller = facts.get(RECIPE, "controller")
    if controller == EMBEDDED:
        return EMBEDDED_BASE[0], "finetune", EMBEDDED_BASE[1]
    return (controller, "finetune", None) if controller and "/" in controller else (None, None, None)


def _training(facts: Facts) -> str:
    if TRAINING not in facts.files:
        return ""
    rows = [
        [label, text]
        for label, text in (
            ("trajectories", facts.show(TRAINING, "summary.rows")),
            ("optimizer steps", facts.show(TRAINING, "summary.steps")),
            ("passes over the data", facts.maybe(RECIPE, "epochs", "{:g}")),
            ("batch", facts.maybe(RECIPE, "batch_size")),
            ("LoRA rank", facts.maybe(RECIPE, "lora_rank")),
            ("LoRA alpha", facts.maybe(RECIPE, "lora_alpha")),
            ("peak learning rate", facts.maybe(RECIPE, "learning_rate", "{:g}")),
            ("warm-up, share of the steps", facts.maybe(RECIPE, "warmup_ratio", "{:g}")),
            ("weight decay", facts.maybe(RECIPE, "weight_decay", "{:g}")),
            ("longest sequence, tokens", facts.maybe(RECIPE, "max_length")),
            ("seed", facts.maybe(RECIPE, "seed")),
            ("mean loss of the last five steps", facts.maybe(TRAINING, "summary.final_loss", "{:.4f}")),
            ("mean loss of the run", facts.maybe(TRAINING, "summary.train_loss", "{:.4f}")),
        )
        if text
    ]
    return table(["setting", "value"], rows, right=1)


def _data(facts: Facts) -> str:
    if DATASET not in facts.files:
        return ""
    splits = facts.get(DATASET, "splits")
    rows = [[f"split `{name}`", facts.show(DATASET, f"splits.{name}")] for name in splits]
    rows += [["trajectories made and not kept", facts.show(DATASET, "rejected")]]
    return table(["data", "rows"], rows, right=1)


def _report(facts: Facts) -> str:
    """The quickstart's comparison: before and after tuning, on families that training saw and did not see."""
    if REPORT not in facts.files:
        return ""
    rows = []
    for part, label in (("seen", "families of the training data"), ("unseen", "families kept out of training")):
        for run in ("untuned", "tuned"):
            key = f"{run}.{part}"
            if facts.get(REPORT, key) is None:
                continue
            cells = [_share(facts, REPORT, f"{key}.{metric}", f"{key}.ci95.{metric}") for metric in METRIC_NAMES]
            rows.append([label, run, facts.show(REPORT, f"{key}.n"), *cells])
    for run, label in (("images", "pictures as they are"), ("blanked", "every picture blanked")):
        key = f"vision.{run}"
        if facts.get(REPORT, f"{key}.n"):
            cells = [_share(facts, REPORT, f"{key}.{metric}", f"{key}.ci95.{metric}") for metric in METRIC_NAMES]
            rows.append([label, "tuned", facts.show(REPORT, f"{key}.n"), *cells])
    return table(["tasks", "controller", "n", *METRIC_NAMES.values()], rows, right=4)


def _share(facts: Facts, file: str, key: str, interval: str) -> str:
    """A share in per cent with its interval, as `86.5 [74.7, 93.3]`."""
    if facts.get(file, key) is None:
        return ""
    text = facts.show(file, key, "{:.1f}", 100)
    if facts.get(file, f"{interval}.1") is None:
        return text
    return f"{text} [{', '.join(facts.show(file, f'{interval}.{end}', '{:.1f}', 100) for end in (0, 1))}]"


def _benchmarks(run: AgentRun) -> list[str]:
    return sorted({run.facts.files[path]["benchmark"] for _, path in run.evaluations})


def _results(facts: Facts, evaluations: list[tuple[str, str]], benchmark: str) -> dict[str, str]:
    """A benchmark's table: this agent, the untuned controller, and what the paper has on the same benchmark."""
    own = [(label, path) for label, path in evaluations if facts.files[path]["benchmark"] == benchmark]
    metrics = list(dict.fromkeys(name for _, path in own for name in facts.files[path]["metrics"]))
    rows = []
    for label, path in own:
        cells = [_share(facts, path, f"metrics.{m}.value", f"metrics.{m}.ci95") for m in metrics]
        scoring = escape(facts.files[path].get("scoring", ""))
        rows.append([label, scoring, facts.show(path, "num_tasks"), *cells])
    paper = _published().get(benchmark, {})
    places = {
        column["metric"]: number for number, column in enumerate(paper.get("columns", [])) if "group" not in column
    }
    for row in paper.get("rows", []):
        values = [row["values"][places[m]] if m in places else None for m in metrics]
        cells = ["" if value is None else f"{value:.1f}" for value in values]
        rows.append([f"{row['method']}, {row['controller']} (paper)", "paper", f"{paper['tasks']:,}", *cells])
    header = ["agent", "scoring", "tasks", *(METRIC_NAMES.get(name, name) for name in metrics)]
    caution = " ".join(str(paper.get("caution", "")).split())
    return {"name": benchmark.upper(), "table": table(header, rows, right=len(metrics) + 1), "caution": caution}


def _published() -> dict[str, Any]:
    """The paper's results by benchmark."""
    text = files("t3_agents.evaluation").joinpath("published.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["benchmarks"]


def _times(facts: Facts) -> str:
    rows = []
    if facts.get(TRAINING, "summary.train_runtime") is not None:
        rows.append(["tuning", facts.show(TRAINING, "summary.train_runtime", "{:.0f}")])
    for stage in facts.get(REPORT, "stage_seconds") or {}:
        rows.append([f"quickstart stage `{stage}`", facts.show(REPORT, f"stage_seconds.{stage}", "{:.0f}")])
    for package, release in (facts.get(REPORT, "versions") or {}).items():
        rows.append([f"release of {package}", escape(release)])
    return table(["what", "seconds or release"], rows, right=1) if rows else ""


def _limits(facts: Facts) -> list[str]:
    """What the numbers themselves say against the agent."""
    found = []
    for part, label in (("seen", "that training saw"), ("unseen", "that training did not see")):
        value = facts.get(REPORT, f"tuned.{part}.ans_acc")
        if value is not None and value < 1:
            wrong = facts.show(REPORT, f"tuned.{part}.ans_acc", "{:.1f}", 100)
            number = facts.show(REPORT, f"tuned.{part}.n")
            found.append(f"On families {label} it answers {wrong} % of {number} tasks right, and the others wrong.")
    return found
