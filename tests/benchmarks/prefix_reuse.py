"""Speed of an agent's steps: stock smolagents, which prefills the whole conversation at every step, and this project.

    python tests/benchmarks/prefix_reuse.py

A conversation of five steps, text only, on the controller's language model: `TransformersModel` of smolagents against
`VLMModel`, which keeps keys and values and guesses tokens from what was said before. Both get the same messages, and
both must write the same tokens. Then the same with a picture in every step, which stock smolagents drops: `VLMModel`
against `VLMModel` that keeps and guesses nothing. The ways take turns in one process, so that a busy machine slows all
of them. The last line is JSON; `results/prefix_reuse.json` holds it with the command, the machine and the versions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from packing import machine
from PIL import Image
from smolagents import TransformersModel
from smolagents.models import ChatMessage, MessageRole

from t3_agents.models.device import best_device, use_fastest_num_threads
from t3_agents.models.embedded import EMBEDDED, embedded_controller
from t3_agents.models.vlm import VLMModel


ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results" / "prefix_reuse.json"
PACKAGES = ("torch", "transformers", "smolagents", "t3-agents")
SENTENCES = [
    "The tool returns what it read from the file, in lines.",
    "A receipt names the shop, the day, every item and the sum.",
    "Print only what is needed for the next step of the task.",
    "Numbers are written with a point, dates as year, month, day.",
]

Generate = Callable[[list[ChatMessage]], tuple[list[int], ChatMessage]]
"""Writes a turn: its ids and the message."""


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--controller", default="embedded", help="name or folder of the model")
    parser.add_argument("--prompt-tokens", type=int, default=2000, help="tokens of the first prompt, about")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--new-tokens", type=int, default=60, help="tokens of a turn")
    parser.add_argument("--rounds", type=int, default=3, help="times that every conversation is measured")
    parser.add_argument("--seconds", type=float, default=420, help="time for the rounds; the first one always runs")
    parser.add_argument("--threads", type=int, help="torch threads; the fastest number by default")
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args(argv)


def first_words(controller: VLMModel, tokens: int) -> str:
    words, number = "", 0
    while len(controller.encoder.tokenizer(words)["input_ids"]) < tokens:
        words += f"{number}. {SENTENCES[number % len(SENTENCES)]}\n"
        number += 1
    return words


def talk(generate: Generate, words: str, steps: int, images: list[Image.Image]) -> tuple[list[float], list[list[int]]]:
    """One conversation: seconds and produced ids of every step."""

    def user(text: str, step: int) -> ChatMessage:
        content: list[dict[str, Any]] = [{"type": "text", "text": text}]
        if images:
            content.insert(0, {"type": "image", "image": images[step]})
        return ChatMessage(role=MessageRole.USER, content=content)

    messages = [ChatMessage(role=MessageRole.SYSTEM, content=[{"type": "text", "text": words}])]
    seconds, produced = [], []
    for step in range(steps):
        question = "What was paid in total?" if not step else f"Observation: line {step} says {17 * step}.50 in all."
        messages.append(user(question, step))
        begin = time.perf_counter()
        ids, message = generate(messages)
        seconds.append(time.perf_counter() - begin)
        produced.append(ids)
        content = [{"type": "text", "text": message.content}]
        messages.append(ChatMessage(role=MessageRole.ASSISTANT, content=content, raw=message.raw))
    return seconds, produced


def make_ways(controller: VLMModel, options: argparse.Namespace) -> dict[str, tuple[Generate, bool]]:
    """By name, how a turn is written, and whether pictures are shown."""
    settings = {"max_new_tokens": options.new_tokens, "min_new_tokens": options.new_tokens}
    folder = embedded_controller() if options.controller == EMBEDDED else options.controller
    stock = TransformersModel(str(folder), device_map=str(controller.model.device), torch_dtype=controller.model.dtype)
    written: list[list[int]] = []
    generate = stock.model.generate

    def noting(inputs: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        output = generate(inputs, **kwargs)
        written.append(output[0, inputs.shape[1] :].tolist())
        return output

    stock.model.generate = noting

    def stock_turn(messages: list[ChatMessage]) -> tuple[list[int], ChatMessage]:
        picture = controller.encoder.image_token_id  # `VLMModel` never writes one
        message = stock.generate(messages, do_sample=False, suppress_tokens=[picture], **settings)
        return written[-1], message

    def own(**reuse: int) -> Generate:
        model = VLMModel(controller.model, controller.processor, **reuse)

        def turn(messages: list[ChatMessage]) -> tuple[list[int], ChatMessage]:
            if len(messages) == 2:  # a conversation begins: nothing is left from the one before
                model.engine.clear()
            message = model.generate(messages, **settings)
            return list(message.raw.output_ids), message

        return turn

    kept = 4 * options.prompt_tokens + 100_000
    return {
        "stock": (stock_turn, False),
        "reuse": (own(max_cached_tokens=kept), False),
        "images_no_reuse": (own(max_cached_tokens=0, max_drafted_tokens=0), True),
        "images_reuse": (own(max_cached_tokens=kept), True),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds by way, round and step, and the ids that were produced."""
    controller = VLMModel.from_pretrained(options.controller)
    ways = make_ways(controller, options)
    words = first_words(controller, options.prompt_tokens)
    colours = ["red", "green", "blue", "yellow", "black"]
    images = [Image.new("RGB", (192, 192), colours[step % 5]) for step in range(options.steps)]
    names = list(ways)
    seconds: dict[str, list[list[float]]] = {name: [] for name in names}
    produced: dict[str, list[list[int]]] = {}
    for generate, _ in ways.values():  # the first call allocates
        talk(generate, "Hello.", 1, [])
    start, rounds = time.perf_counter(), 0
    # A round is started when it can be expected to end in time.
    while not rounds or (
        rounds < options.rounds and (time.perf_counter() - start) * (rounds + 1) / rounds <= options.seconds
    ):
        shift = rounds % len(names)
        for name in names[shift:] + names[:shift]:
            generate, with_images = ways[name]
            taken, ids = talk(generate, words, options.steps, images if with_images else [])
            if produced.setdefault(name, ids) != ids:
                raise SystemExit(f"`{name}` wrote something else in round {rounds}, though it decodes greedily.")
            seconds[name].append(taken)
        rounds += 1
        print(f"round {rounds}: " + ", ".join(f"{name} {sum(seconds[name][-1]):.1f} s" for name in names), flush=True)
    return {"seconds": seconds, "produced": produced, "rounds": rounds}


def summarise(measured: dict[str, Any]) -> dict[str, Any]:
    """Time against the reference, below 1 is faster: medians over the rounds, of whole runs and of all steps but the
    first."""
    total, later = (
        {name: statistics.median(map(part, rounds)) for name, rounds in measured["seconds"].items()}
        for part in (sum, lambda steps: sum(steps[1:]))
    )
    ids = measured["produced"]
    return {
        "total_vs_stock": round(total["reuse"] / total["stock"], 3),
        "later_steps_vs_stock": round(later["reuse"] / later["stock"], 3),
        "identical": ids["reuse"] == ids["stock"],
        "images_total_vs_no_reuse": round(total["images_reuse"] / total["images_no_reuse"], 3),
        "images_later_steps_vs_no_reuse": round(later["images_reuse"] / later["images_no_reuse"], 3),
        "images_identical": ids["images_reuse"] == ids["images_no_reuse"],
    }


def main(argv: list[str]) -> int:
    options = parse(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    else:
        use_fastest_num_threads()
    before = machine()
    measured = measure(options)
    summary = summarise(measured)
    record = {
        **summary,
        "sizes": {name: getattr(options, name) for name in ("controller", "prompt_tokens", "steps", "new_tokens")},
        "rounds": measured["rounds"],
        "seconds": {n: [[round(v, 3) for v in steps] for steps in by] for n, by in measured["seconds"].items()},
        "command": " ".join(["python", str(Path(__file__).relative_to(ROOT)), *argv]),
        "machine": {**before, "device": best_device(), "load_after": [round(value, 2) for value in os.getloadavg()]},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
