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
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from _report import machine, make_parser, rounds_of, use_threads, write_record
from PIL import Image
from smolagents import TransformersModel
from smolagents.models import ChatMessage, MessageRole

from t3_agents.models.device import best_device
from t3_agents.models.embedded import EMBEDDED, embedded_controller
from t3_agents.models.vlm import VLMModel


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
    parser = make_parser(__doc__, controller=True, rounds="every conversation is", threads=True)
    parser.set_defaults(seconds=420)
    parser.add_argument("--prompt-tokens", type=int, default=2000, help="tokens of the first prompt, about")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--new-tokens", type=int, default=60, help="tokens of a turn")
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
    colors = ["red", "green", "blue", "yellow", "black"]
    images = [Image.new("RGB", (192, 192), colors[step % 5]) for step in range(options.steps)]
    names = list(ways)
    seconds: dict[str, list[list[float]]] = {name: [] for name in names}
    produced: dict[str, list[list[int]]] = {}
    for generate, _ in ways.values():  # the first call allocates
        talk(generate, "Hello.", 1, [])
    for number in rounds_of(options):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            generate, with_images = ways[name]
            taken, ids = talk(generate, words, options.steps, images if with_images else [])
            if produced.setdefault(name, ids) != ids:
                raise SystemExit(f"`{name}` wrote something else in round {number}, though it decodes greedily.")
            seconds[name].append(taken)
        print(
            f"round {number + 1}: " + ", ".join(f"{name} {sum(seconds[name][-1]):.1f} s" for name in names), flush=True
        )
    return {"seconds": seconds, "produced": produced, "rounds": number + 1}


def summarize(measured: dict[str, Any]) -> dict[str, Any]:
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
    use_threads(options.threads)
    before = machine(threads=torch.get_num_threads(), device=best_device())
    measured = measure(options)
    summary = summarize(measured)
    details = {
        "sizes": {name: getattr(options, name) for name in ("controller", "prompt_tokens", "steps", "new_tokens")},
        "rounds": measured["rounds"],
        "seconds": {n: [[round(v, 3) for v in steps] for steps in by] for n, by in measured["seconds"].items()},
    }
    return write_record(options.output, argv, summary, details, before, PACKAGES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
