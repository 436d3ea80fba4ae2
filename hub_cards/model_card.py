"""Model cards of agents, from the files that tuning and evaluation left. No number in a card is typed in."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from t3_agents.errors import InputError
from t3_agents.evaluation.run import published_results
from t3_agents.evaluation.scenarios import METRICS
from t3_agents.hub.safe_loading import read_json
from t3_agents.models.embedded import EMBEDDED
from t3_agents.reports import CURVES_FILE, FAMILIES_FILE, QUICKSTART_FILE, TRAINING_FILE
from t3_agents.reports.markdown import Markdown, code, escape, join, render, table
from t3_agents.reports.tables import label_of
from t3_agents.storage import SETTINGS_FILE

from .eval_results import make_model_index, read_results


@dataclass
class Facts:
    """JSON files of a run and what a card showed of them.

    Args:
        files (`dict[str, Any]`): parsed content by the path that the file has in the repository.
    """

    files: dict[str, Any]
    shown: dict[tuple[str, str, str], None] = field(default_factory=dict)

    def get(self, file: str, key: str) -> Any:
        """A value by the keys that lead to it, separated by dots; nothing when it is not there."""
        value = self.files.get(file)
        for part in key.split("."):
            if isinstance(value, list):
                value = value[int(part)] if part.isdigit() and int(part) < len(value) else None
            elif isinstance(value, dict):
                value = value.get(part)
            else:
                return None
        return value

    def show(self, file: str, key: str, form: str = "{:,}", factor: float = 1) -> str:
        """A number as text, noted with its place, so that the card can say where it comes from.

        Args:
            file (`str`), key (`str`): where it is.
            form (`str`, *optional*, defaults to `"{:,}"`): format of the text.
            factor (`float`, *optional*, defaults to 1): what it is multiplied with; 100 makes a share per cent.

        Returns:
            `str`: empty when there is no such number.
        """
        value = self.get(file, key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return ""
        text = form.format(value * factor if factor != 1 else value)
        self.shown[text, file, key] = None
        return text


def without_machine(value: Any) -> Any:
    """A record whose paths of this machine are cut to their last part: they mean nothing elsewhere."""
    if isinstance(value, dict):
        return {key: without_machine(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_machine(inner) for inner in value]
    if isinstance(value, str) and (value.startswith(("/", "./", "../", "~")) or os.path.exists(value)):
        return Path(value).name
    return value


EMBEDDED_BASE = ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")
"""What the offline controller is made from, and its license; see `t3_agents/models/embedded.py`."""
AGENT, ADAPTER, MODEL = "t3_agent.json", "adapter_config.json", "config.json"
RECIPE, TRAINING, REPORT, DATASET = "run/recipe.json", "run/train.json", "run/report.json", "run/dataset.json"
_PLOTS = {CURVES_FILE: "Loss and token accuracy by step", FAMILIES_FILE: "Right answers by task family"}
_TRAINING = (
    ("trajectories", TRAINING, "summary.rows", "{:,}"),
    ("optimizer steps", TRAINING, "summary.steps", "{:,}"),
    ("passes over the data", RECIPE, "num_train_epochs", "{:g}"),
    ("batch", RECIPE, "per_device_train_batch_size", "{:,}"),
    ("LoRA rank", RECIPE, "lora_r", "{:,}"),
    ("LoRA alpha", RECIPE, "lora_alpha", "{:,}"),
    ("peak learning rate", RECIPE, "learning_rate", "{:g}"),
    ("warm-up, steps or their share", RECIPE, "warmup_steps", "{:g}"),
    ("weight decay", RECIPE, "weight_decay", "{:g}"),
    ("longest sequence, tokens", RECIPE, "max_length", "{:,}"),
    ("seed", RECIPE, "seed", "{:,}"),
    ("mean loss of the last five steps", TRAINING, "summary.final_loss", "{:.4f}"),
    ("lowest loss on the validation rows", TRAINING, "summary.best_eval_loss", "{:.4f}"),
    ("tokens read per second", TRAINING, "summary.tokens_per_second", "{:,.0f}"),
    ("most memory in use, MiB", TRAINING, "summary.peak_memory_mb", "{:,}"),
)
"""Rows of the table on tuning: label, file, key, form."""
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
    if agent.name == "agent" and (training / TRAINING_FILE).is_file():
        found[TRAINING] = read_json(training / TRAINING_FILE)
        recipe = read_json(training / SETTINGS_FILE)
        found[RECIPE] = without_machine(recipe)
        run.plots[f"run/{CURVES_FILE}"] = training / CURVES_FILE
        quickstart = training.parent
        if training.name == "train" and (quickstart / QUICKSTART_FILE).is_file():
            found[REPORT] = read_json(quickstart / QUICKSTART_FILE)
            run.plots[f"run/{FAMILIES_FILE}"] = quickstart / FAMILIES_FILE
        for dataset in (Path(str(recipe.get("dataset_name"))), quickstart / "dataset"):
            if DATASET not in found and (dataset / "statistics.json").is_file():
                statistics = read_json(dataset / "statistics.json")
                found[DATASET] = {name: value for name, value in statistics.items() if name not in _BULK}
    run.plots = {place: path for place, path in run.plots.items() if path.is_file()}
    for label, folders in (("this agent", results or []), ("untuned", untuned or [])):
        for number, folder in enumerate(folders):
            path = f"run/results/{'tuned' if label == 'this agent' else 'untuned'}-{number}.json"
            found[path] = without_machine(read_results(folder))
            run.evaluations.append((label, path))
    return run


def make_model_card(
    run: AgentRun,
    repo_id: str | None,
    dataset: str | None = None,
    license: str | None = None,
    report_url: str = "",
    location: str = "",
) -> ModelCard:
    """The card of an agent.

    Args:
        run ([`AgentRun`]): what it is written from.
        repo_id (`str`, *optional*): where it will be on the Hub.
        dataset (`str`, *optional*): Hub id of the dataset that it was tuned on.
        license (`str`, *optional*): Hub id of the license; that of the embedded controller when it is made from it.
        report_url (`str`, *optional*): address of the evaluation's report, for the results.
        location (`str`, *optional*): what it is loaded by where it is not on the Hub: its folder.
    """
    facts, name = run.facts, (repo_id or location).rpartition("/")[2]
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
        model_name=name if index else None,
        eval_results=index or None,
    )
    values = {
        "name": name,
        "base": base,
        "base_revision": facts.get(AGENT, "controller.revision"),
        "is_adapter": ADAPTER in facts.files,
        "is_embedded": facts.get(RECIPE, "model_name_or_path") == EMBEDDED,
        "model_type": facts.get(MODEL, "model_type") or "vision-language model",
        "prompt": facts.get(AGENT, "prompt"),
        "tuned_for": _scope(facts),
        "max_steps": facts.show(AGENT, "max_steps"),
        "tools": Markdown(", ".join(code(str(record.get("name"))) for record in facts.get(AGENT, "tools") or [])),
        "training": _table(facts, ["setting", "value"], _TRAINING),
        "data_table": _data(facts),
        "report_table": _report(facts),
        "results": [_results(facts, run.evaluations, benchmark) for benchmark in _benchmarks(run)],
        "times": _times(facts),
        "versions": facts.get(REPORT, "versions") or {},
        "limits": _limits(facts),
    }
    for name, caption in _PLOTS.items():
        place = f"run/{name}"
        values[name.partition(".")[0]] = Markdown(f"![{caption}]({place})" if place in run.plots else "")
    # Last: the sections above note what they show.
    sources = [[text, code(file), code(key)] for text, file, key in sorted(facts.shown)]
    content = render(
        "hub_cards",
        "model_card.md",
        card_data=Markdown(card_data.to_yaml()),
        location=Markdown(repo_id or location),
        dataset=dataset and Markdown(dataset),
        sources_table=table(["number", "file", "key"], sources),
        **values,
    )
    return ModelCard(content)


def _scope(facts: Facts) -> Markdown | None:
    """What the agent was tuned for."""
    scope = facts.get(AGENT, "tuned_for") or {}
    kinds, questions = scope.get("files") or [], scope.get("questions") or []
    if not questions:
        return None
    with_files = f" with files of the kinds {', '.join(map(code, kinds))}" if kinds else ""
    rows = [[escape(question)] for question in questions]
    return join(
        Markdown(f"It was tuned for questions such as these{with_files}; others are outside."),
        table(["question"], rows),
    )


def _base(facts: Facts) -> tuple[str | None, str | None, str | None]:
    """Base model, how this one was made from it, and a license that is known."""
    base = facts.get(AGENT, "controller.base") or facts.get(ADAPTER, "base_model_name_or_path")
    if base:
        return base, "adapter", None
    controller = facts.get(RECIPE, "model_name_or_path")
    if controller == EMBEDDED:
        return EMBEDDED_BASE[0], "finetune", EMBEDDED_BASE[1]
    return (controller, "finetune", None) if controller and "/" in controller else (None, None, None)


def _table(facts: Facts, header: list[str], entries: Iterable[tuple[str, str, str, str]]) -> Markdown | None:
    """The numbers that are there, each with its label."""
    rows = [[label, facts.show(file, key, form)] for label, file, key, form in entries]
    rows = [row for row in rows if row[1]]
    return table(header, rows, right=1) if rows else None


def _data(facts: Facts) -> Markdown | None:
    splits = [(f"split {name}", DATASET, f"splits.{name}", "{:,}") for name in facts.get(DATASET, "splits") or {}]
    rejected = ("trajectories made and not kept", DATASET, "rejected", "{:,}")
    return _table(facts, ["data", "rows"], [*splits, rejected])


def _times(facts: Facts) -> Markdown | None:
    stages = {name: f"stage_seconds.{name}" for name in facts.get(REPORT, "stage_seconds") or {}}
    rows = [(f"quickstart stage {name}", REPORT, key, "{:.0f}") for name, key in stages.items()]
    return _table(facts, ["what", "seconds"], [("tuning", TRAINING, "summary.train_seconds", "{:.0f}"), *rows])


def _report(facts: Facts) -> Markdown | None:
    """The quickstart's comparison: before and after tuning, on families that training saw and did not see."""
    parts = {"seen": "families of the training data", "unseen": "families kept out of training"}
    kinds = {f"{run}.{part}": (label, run) for part, label in parts.items() for run in ("untuned", "tuned")}
    kinds |= {"vision.images": ("pictures as they are", "tuned"), "vision.blanked": ("every picture blanked", "tuned")}
    rows = [
        [
            *names,
            facts.show(REPORT, f"{key}.n"),
            *(_share(facts, REPORT, f"{key}.{metric}", f"{key}.ci95.{metric}") for metric in METRICS),
        ]
        for key, names in kinds.items()
        if facts.get(REPORT, f"{key}.n")
    ]
    return table(["tasks", "controller", "n", *map(label_of, METRICS)], rows, right=4) if rows else None


def _share(facts: Facts, file: str, key: str, interval: str) -> str:
    """A share in per cent with its interval, as `86.5 [74.7, 93.3]`."""
    text = facts.show(file, key, "{:.1f}", 100)
    bounds = [facts.show(file, f"{interval}.{end}", "{:.1f}", 100) for end in (0, 1)]
    return Markdown(f"{text} [{', '.join(bounds)}]") if text and all(bounds) else text


def _benchmarks(run: AgentRun) -> list[str]:
    return sorted({run.facts.files[path]["benchmark"] for _, path in run.evaluations})


def _results(facts: Facts, evaluations: list[tuple[str, str]], benchmark: str) -> dict[str, Any]:
    """A benchmark's table: this agent, the untuned controller, and what the paper has on the same benchmark."""
    own = [(label, path) for label, path in evaluations if facts.files[path]["benchmark"] == benchmark]
    metrics = list(dict.fromkeys(name for _, path in own for name in facts.files[path]["metrics"]))
    rows = []
    for label, path in own:
        cells = [_share(facts, path, f"metrics.{m}.value", f"metrics.{m}.ci95") for m in metrics]
        rows.append([label, facts.files[path].get("scoring", ""), facts.show(path, "num_tasks"), *cells])
    paper = published_results(benchmark)
    if paper:
        places = {column.metric: number for number, column in enumerate(paper.columns) if column.group is None}
        for row in paper.rows:
            values = [row.values[places[m]] if m in places else None for m in metrics]
            cells = ["" if value is None else f"{value:.1f}" for value in values]
            rows.append([f"{row.method}, {row.controller} (paper)", "paper", f"{paper.tasks:,}", *cells])
    shown = table(["agent", "scoring", "tasks", *map(label_of, metrics)], rows, right=len(metrics) + 1)
    return {"name": benchmark.upper(), "table": shown, "caution": paper.caution if paper else ""}


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
