"""What is looked at before a saved agent is loaded from a folder or repo that somebody else made.

Loading runs no code: configuration is data, weights are safetensors, tools come by name from the installed package.
The checks here refuse what tries to be more, each with one sentence. What a repo holds besides (Python files, pickle
files) is not downloaded and never opened.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import InputError


MAX_JSON_BYTES = 8 * 2**20
MAX_TOKENIZER_BYTES = 128 * 2**20
"""Of `tokenizer.json` and vocabulary files, which are as long as the vocabulary; the longest known have 40 MB."""
MAX_JSON_VALUES, MAX_TOKENIZER_VALUES = 500_000, 8_000_000
"""Lists, objects and their entries: each takes a hundred bytes when it is read, whatever it takes in the file."""
MAX_HEADER_BYTES = 25 * 10**6
"""Of a safetensors file: four times the longest known. The format allows 100 MB."""
MAX_DEPTH = 64
SETTINGS_FILES = ("t3_agent.json", "config.json", "adapter_config.json", "generation_config.json")
_INDEXES = ("model.safetensors.index.json", "adapter_model.safetensors.index.json")
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "model.safetensors.index.json")
MAX_SIDE = 8_192
"""Pixels along a side, tokens of a picture, and the like."""
MAX_GROWTH = 1000
"""How often longer a tokenizer's rules may make a text."""
# Their image processors call numbers of pixels edges.
_PIXEL_FAMILIES = tuple(
    "qwen glm paddleocr ernie4 hunyuan lfm2 minimax videollama neomme cosmos coherecompass".split()
)
# Names of modules with `.*` and groups that are not repeated.
_MODULE_PATTERN = re.compile(r"(?:\w|\\?\.|\.\*\??|-|\\b|\\d\+?|\[[\\\w-]+\](?:\+|\{1,\})?|\(\?[:!=]|[|()^$])*")
# A repeated group that ends in a repetition, as in `(a+)+`.
_NESTED_REPEAT = re.compile(r"(?<!\\)(?:[+*]|\{\d*,\d*\})\??\)[+*{]")
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")

GENERATION_SETTINGS = frozenset(
    "max_new_tokens min_new_tokens do_sample seed temperature top_k top_p min_p typical_p repetition_penalty "
    "no_repeat_ngram_size num_beams length_penalty early_stopping use_cache penalty_alpha epsilon_cutoff "
    "eta_cutoff top_h suppress_tokens".split()
)
"""Arguments of `generate` that are plain numbers, or lists of them. Others name repositories or hold objects."""

SAFE_IMPORTS = frozenset(
    "bisect calendar collections copy dataclasses datetime decimal difflib fractions functools heapq itertools json "
    "math numbers queue random re stat statistics string textwrap time typing unicodedata zoneinfo".split()
)
"""Modules that a saved configuration may open to model-written code. Others write files anywhere (numpy, PIL), read
pickle files (pandas) or start processes (os): with them, the weights of a stranger decide what runs here."""

# What a prompt template may be made of: values, conditions, one loop in another, and the look-ups of smolagents' own
# templates. Jinja's sandbox would not do: the template is given the tools themselves, whose methods do things.
_TEMPLATE_NODES = frozenset(
    "Template Output TemplateData Name Const Getattr Getitem Filter Test Call For If CondExpr And Or Not Compare "
    "Operand List Tuple Concat".split()
)
_TEMPLATE_CALLS = frozenset("keys values items to_code_prompt to_tool_calling_prompt".split())
_TEMPLATE_FIELDS = _TEMPLATE_CALLS | frozenset(
    "name description inputs output_type output_schema type nullable first last index index0 length".split()
)
_TEMPLATE_FILTERS = frozenset("join list length lower upper trim title capitalize tojson default first last".split())
MAX_TEMPLATE_CHARACTERS = 200_000


def strict_json(text: str | bytes, name: str, max_values: int = MAX_JSON_VALUES) -> Any:
    """Parse JSON without what different readers read differently: repeated keys, `NaN`, very deep nesting.

    Args:
        text (`str` or `bytes`): the file's content.
        name (`str`): the file, for messages.
        max_values (`int`, *optional*, defaults to 500,000): lists, objects and their entries.

    Raises:
        InputError: when it is not such JSON.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) < len(pairs):
            key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
            raise InputError(f"{name} has the field `{key[:80]}` twice.")
        return record

    def finite(value: str) -> float:
        if not math.isfinite(number := float(value)):
            raise InputError(f"{name} has {value[:80]}, which is not JSON or no number that a computer has.")
        return number

    marks = (",", "[", "{") if isinstance(text, str) else (b",", b"[", b"{")
    if sum(map(text.count, marks)) > max_values:
        raise InputError(f"{name} has more than {max_values:,} values; it is not read.")
    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=finite, parse_float=finite)
        if _depth(value) > MAX_DEPTH:
            raise RecursionError
    except InputError:
        raise
    except RecursionError:
        raise InputError(f"{name} is nested more than {MAX_DEPTH} deep.") from None
    except ValueError as error:
        raise InputError(f"{name} is not JSON ({str(error)[:200]}).") from None
    return value


def read_json(path: Path) -> Any:
    """A JSON file of a saved agent, see [`strict_json`]; its size is looked at first."""
    is_vocabulary = path.name in _VOCABULARIES
    limit = MAX_TOKENIZER_BYTES if is_vocabulary else MAX_JSON_BYTES
    if path.stat().st_size > limit:
        raise InputError(f"{path.name} has {path.stat().st_size:,} bytes; {limit:,} are the most that is read.")
    return strict_json(path.read_bytes(), path.name, MAX_TOKENIZER_VALUES if is_vocabulary else MAX_JSON_VALUES)


def check_listing(name: str, sizes: Mapping[str, int]) -> None:
    """Look at names and sizes of files before they are downloaded.

    Args:
        name (`str`): the repo, for messages.
        sizes (`Mapping[str, int]`): bytes by path.

    Raises:
        InputError: for a path that leaves the folder, or a configuration of a size that none has.
    """
    for path, size in sizes.items():
        parts = PurePosixPath(path).parts
        if path.startswith("/") or ".." in parts or "\\" in path or not path.isprintable():
            raise InputError(f"`{name}` has a file named `{path}`, which leaves its folder: it is not loaded.")
        limit = MAX_TOKENIZER_BYTES if path in _VOCABULARIES else MAX_JSON_BYTES
        if path.endswith((".json", ".jinja", ".txt")) and size > limit:
            raise InputError(f"{path} of `{name}` has {size:,} bytes; {limit:,} are the most that is read.")


def check_folder(folder: Path) -> None:
    """Look at the files of a saved agent, model or adapter.

    Args:
        folder (`Path`): its folder, or its snapshot in the Hub's cache.

    Raises:
        InputError: for a link that leaves the folder, weights that are not safetensors, settings that would load code
            or files of this machine.
    """
    # In the Hub's cache, the files of a snapshot are links to `blobs` beside the snapshots.
    roots = [folder.resolve(), folder.resolve().parent.parent / "blobs"]
    files = {path.name: path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".jinja")}
    for name, path in files.items():
        if not any(path.resolve().is_relative_to(root) for root in roots):
            raise InputError(f"{name} in {folder.name} is a link to a file outside of it: it is not loaded.")
        if path.is_file() and path.suffix != ".safetensors":
            check_listing(folder.name, {name: path.stat().st_size})
    weights = [name for name in files if name.endswith(".safetensors")]
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt"))
    if not weights and pickles:
        raise InputError(
            f"The weights in {folder.name} are a pickle file ({pickles[0]}), which can run code: only safetensors are "
            "loaded."
        )
    dimensions = [_largest_dimension(files[name]) for name in weights]
    for name in files:
        if name.endswith(".json") and name not in ("vocab.json", *_INDEXES):
            record = read_json(files[name])
            _check_numbers(name, record)
            if name in SETTINGS_FILES:
                _check_settings(name, record)
            if name == "adapter_config.json":
                _check_adapter(name, record, max(dimensions, default=0))
            if name == "tokenizer.json":
                _check_tokenizer(name, record)
    for name in files:
        if name.endswith(".safetensors.index.json"):
            _check_index(name, read_json(files[name]), weights)


def check_repo_id(value: Any, owner: str) -> None:
    """Refuse anything but the id of a Hub repo where a saved agent names another one.

    Raises:
        InputError: for a path or an address.
    """
    if not isinstance(value, str) or not _REPO_ID.fullmatch(value) or ".." in value:
        raise InputError(f"{owner} names `{str(value)[:80]}`, which is not the id of a Hub repo: it is not loaded.")


def check_source(name: str, option: str) -> None:
    """Refuse what is neither here nor can be the id of a Hub repo, before anything that takes long is imported.

    Raises:
        InputError: naming the option.
    """
    if not Path(name).exists() and not _REPO_ID.fullmatch(name):
        raise InputError(f"`{option}` names `{name}`, which is neither a folder here nor the id of a Hub repo.")


def check_template(name: str, text: Any) -> None:
    """Refuse a prompt template that does more than fill in values.

    Args:
        name (`str`): the template, for messages.
        text (`str`): a Jinja template.

    Raises:
        InputError: when it is no template, or calls, imports or looks up something that prompts do not need.
    """
    from jinja2 import Environment, TemplateSyntaxError, nodes

    if not isinstance(text, str) or len(text) > MAX_TEMPLATE_CHARACTERS:
        raise InputError(f"The prompt template `{name}` must be text of at most {MAX_TEMPLATE_CHARACTERS:,} letters.")
    try:
        tree = Environment().parse(text)
    except (TemplateSyntaxError, RecursionError) as error:
        raise InputError(f"The prompt template `{name}` cannot be read: {error}.") from None
    level: list[tuple[nodes.Node, int]] = [(tree, 0)]
    while level:
        node, loops = level.pop()
        kind = type(node).__name__
        loops += isinstance(node, nodes.For)
        allowed = kind in _TEMPLATE_NODES and loops <= 2
        if isinstance(node, nodes.Getattr):
            allowed = node.attr in _TEMPLATE_FIELDS
        elif isinstance(node, nodes.Getitem):
            allowed = isinstance(node.arg, nodes.Const) and not str(node.arg.value).startswith("_")
        elif isinstance(node, nodes.Call):
            allowed = isinstance(node.node, nodes.Getattr) and node.node.attr in _TEMPLATE_CALLS
        elif isinstance(node, nodes.Filter):
            # A joint of text that is joined itself grows with every step.
            allowed = node.name in _TEMPLATE_FILTERS and all(isinstance(arg, nodes.Const) for arg in node.args)
            allowed = allowed and not node.kwargs and (node.name == "default" or len(repr(node.args)) < 100)
        if not allowed:
            raise InputError(
                f"The prompt template `{name}` does more than fill in values ({kind} in line {node.lineno}): it is "
                "not loaded without trust_remote_code=True."
            )
        level += [(child, loops) for child in node.iter_child_nodes()]


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH:
        depth += 1
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return depth


def _largest_dimension(path: Path) -> int:
    """The longest side of any tensor of a safetensors file, whose header is checked.

    The file begins with the length of its JSON header, 8 bytes little-endian, then the header.
    Format: https://huggingface.co/docs/safetensors/index#format
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise InputError(f"{path.name} is not a safetensors file: its header would have {length:,} bytes.")
        header = strict_json(stream.read(length), f"The header of {path.name}", MAX_HEADER_BYTES // 10)
    if not isinstance(header, dict):
        raise InputError(f"{path.name} is not a safetensors file: its header is no JSON object.")
    shapes = [entry.get("shape") for entry in header.values() if isinstance(entry, dict) and "shape" in entry]
    if not all(isinstance(shape, list) and all(type(side) is int for side in shape) for shape in shapes):
        raise InputError(f"{path.name} is not a safetensors file: it has a tensor without a shape.")
    return max((side for shape in shapes for side in shape), default=0)


def _check_numbers(name: str, record: Any) -> None:
    """Refuse numbers of layers, pixels and the like for which no memory is enough."""
    level = [("", record)]
    is_settings = name not in _VOCABULARIES
    classes = _found(record, "image_processor_type") or _found(record, "processor_class")
    counts_pixels = bool(classes) and all(str(each).lower().startswith(_PIXEL_FAMILIES) for each in classes)
    while level and is_settings:
        key, value = level.pop()
        if isinstance(value, dict):
            level += value.items()
        elif isinstance(value, list):
            level += [(key, each) for each in value]
        if type(value) is not int or key.endswith(("_id", "_ids", "model_max_length")):
            continue
        limit = 2**53
        if re.search(r"^(num|n)_.*(layer|expert|block)|layers$|^depths?$|num_beams|num_return", key):
            limit = 2048
        elif counts_pixels and re.search(r"pixels|edge", key):
            limit = 2**24 if re.search("min|shortest", key) else 2**27
        elif "processor" in name and re.search(r"height|width|edge|size|seq_len|token|tile|patch|frame|pad", key):
            limit = MAX_SIDE
        if abs(value) > limit:
            raise InputError(f"{name} has `{key[:80]}: {str(value)[:40]}`, which no model has: it is not loaded.")


def _found(record: Any, name: str) -> list[Any]:
    """All values of a field, at any depth."""
    found, level = [], [record]
    while level:
        value = level.pop()
        if isinstance(value, dict):
            found += [value[name]] if name in value else []
            level += value.values()
    return found


def _check_adapter(name: str, record: dict[str, Any], largest: int) -> None:
    """Refuse ranks that the weights do not have, and patterns of modules that take long to compare."""
    patterns = {key: record.get(key) or {} for key in ("rank_pattern", "alpha_pattern")}
    ranks = [
        record.get("r", 0),
        *(patterns["rank_pattern"].values() if isinstance(patterns["rank_pattern"], dict) else []),
    ]
    if not all(isinstance(rank, int) and rank <= max(largest, 1) for rank in ranks):
        raise InputError(f"{name} has a rank that its weights do not have: it is not loaded.")
    texts = [key for pattern in patterns.values() if isinstance(pattern, dict) for key in pattern]
    for key in ("target_modules", "exclude_modules", "layers_pattern"):
        value = record.get(key)
        texts += (
            [value] if isinstance(value, str) else value if isinstance(value, list) and key == "layers_pattern" else []
        )
    for text in texts:
        if not isinstance(text, str) or not _MODULE_PATTERN.fullmatch(text) or text.count(".*") > 4:
            raise InputError(f"{name} names modules by the pattern `{str(text)[:80]}`: name them as a list.")


def _check_tokenizer(name: str, record: Any) -> None:
    """Refuse rules that make text grow without bound, and patterns that take long to compare."""
    parts = [record.get(key) for key in ("normalizer", "pre_tokenizer", "post_processor", "decoder", "padding")]
    growth, level = 1, [part for part in parts if part]
    while level:
        value = level.pop()
        level += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if not isinstance(value, dict):
            continue
        texts = [value.get(key) for key in ("content", "prepend", "replacement")]
        growth *= max([1, *(len(text) for text in texts if isinstance(text, str))])
        pattern = value.get("pattern")
        pattern = pattern.get("Regex") if isinstance(pattern, dict) else None
        fixed = value.get("strategy")
        if isinstance(fixed, dict) and isinstance(fixed.get("Fixed"), int) and fixed["Fixed"] > 2**20:
            growth = MAX_GROWTH + 1
        if isinstance(pattern, str) and (len(pattern) > 2000 or _NESTED_REPEAT.search(pattern)):
            raise InputError(f"{name} splits text by the pattern `{pattern[:80]}`, which may take forever.")
    if growth > MAX_GROWTH:
        raise InputError(f"{name} has rules that make text more than {MAX_GROWTH} times as long: it is not loaded.")


def _check_settings(name: str, record: Any) -> None:
    if not isinstance(record, dict):
        raise InputError(f"{name} must be a JSON object, not {type(record).__name__}.")
    if name == "adapter_config.json":
        # PEFT imports the modules that these name.
        mapping = record.get("auto_mapping") or {}
        library = str(mapping.get("parent_library", "transformers.") if isinstance(mapping, dict) else mapping)
        if record.get("megatron_config") or not library.startswith("transformers."):
            raise InputError(f"{name} names Python modules to import besides transformers: it is not loaded.")
    level = [record]
    while level:
        value = level.pop()
        level += [inner for inner in value.values() if isinstance(inner, dict)]
        for key in ("attn_implementation", "_attn_implementation", "experts_implementation"):
            if "/" in json.dumps(value.get(key)):
                raise InputError(f"{name} names a kernel of the Hub in `{key}`, which is code: it is not loaded.")
        for key in ("custom_generate", "trust_remote_code"):
            if value.get(key):
                raise InputError(f"{name} has `{key}`, which asks for code of the Hub: it is not loaded.")


def _check_index(name: str, record: Any, weights: list[str]) -> None:
    places = record.get("weight_map") if isinstance(record, dict) else None
    if not isinstance(places, dict):
        raise InputError(f"{name} has no `weight_map`.")
    for place in places.values():
        if place not in weights:
            raise InputError(f"{name} names `{str(place)[:80]}`, which is not one of the safetensors files beside it.")
