"""Keys and values that are kept: a tree of prefixes between requests, and rows of a buffer while requests run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from .ragged_attention import RaggedBatch


Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Per layer keys and values of shape `(num_kv_heads, num_tokens, head_dim)`."""


@dataclass(eq=False)
class _Node:
    """A run of tokens that all conversations below it have in common."""

    keys: list[Any]
    layers: Layers
    parent: _Node | None = None
    children: dict[Any, _Node] = field(default_factory=dict)
    last_used: int = 0


class PrefixTree:
    """Kept keys and values of conversations; what several have in common, such as the system prompt, is held once.

    A token's place in the tree is decided by its key: its id, or for the tokens of a picture the picture's digest and
    the offset in it, since different pictures have the same ids.

    Args:
        max_tokens (`int`): tokens that are held at most; the least recently used ends of conversations go first.
    """

    def __init__(self, max_tokens: int):
        self.max_tokens = max_tokens
        self.num_tokens = 0
        self._root = _Node([], [])
        self._clock = 0

    @property
    def num_bytes(self) -> int:
        """Memory of the held keys and values."""
        return sum(t.nbytes for node in self._nodes() for layer in node.layers for t in layer)

    def match(self, keys: Sequence[Any]) -> list[tuple[Layers, int]]:
        """The longest held prefix of a prompt with these keys: its pieces in order, each with layers, and how many of
        their tokens belong to it."""
        return [(node.layers, count) for node, count in self._walk(keys)[1]]

    def insert(self, keys: Sequence[Any], read: Callable[[int, int], Layers]) -> None:
        """Hold a prefix.

        Args:
            keys (`Sequence`): keys of its tokens.
            read (`Callable[[int, int], Layers]`): gives keys and values of the tokens from `start` to `end`; they are
                copied.
        """
        start, path = self._walk(keys)
        if start == len(keys):
            return
        node = self._root
        if path:
            node, count = path[-1]
            if count < len(node.keys):
                self._split(node, count)
        self._shrink(self.max_tokens - (len(keys) - start), spared=[node for node, _ in path])
        end = min(len(keys), start + self.max_tokens - self.num_tokens)
        if end <= start:
            return
        layers = [(k.clone(), v.clone()) for k, v in read(start, end)]
        child = _Node(list(keys[start:end]), layers, node, last_used=self._clock)
        node.children[child.keys[0]] = child
        self.num_tokens += len(child.keys)

    def clear(self) -> None:
        self._root = _Node([], [])
        self.num_tokens = 0

    def _walk(self, keys: Sequence[Any]) -> tuple[int, list[tuple[_Node, int]]]:
        self._clock += 1
        node, position, path = self._root, 0, []
        while position < len(keys) and keys[position] in node.children:
            node = node.children[keys[position]]
            node.last_used = self._clock
            count = _shared_length(node.keys, keys[position : position + len(node.keys)])
            path.append((node, count))
            position += count
            if count < len(node.keys):
                break
        return position, path

    def _split(self, node: _Node, count: int) -> None:
        """Turn a node into its first tokens with the others below it. Both parts are copied: a view of one would keep
        the memory of both."""
        rest = _Node(
            node.keys[count:],
            [(k[:, count:].clone(), v[:, count:].clone()) for k, v in node.layers],
            node,
            node.children,
            node.last_used,
        )
        for child in rest.children.values():
            child.parent = rest
        node.keys = node.keys[:count]
        node.layers = [(k[:, :count].clone(), v[:, :count].clone()) for k, v in node.layers]
        node.children = {rest.keys[0]: rest}

    def _shrink(self, max_tokens: int, spared: Sequence[_Node]) -> None:
        while self.num_tokens > max_tokens:
            ends = [node for node in self._nodes() if not node.children and node not in spared]
            if not ends:
                return
            oldest = min(ends, key=lambda node: node.last_used)
            del oldest.parent.children[oldest.keys[0]]
            self.num_tokens -= len(oldest.keys)

    def _nodes(self) -> list[_Node]:
        nodes, waiting = [], list(self._root.children.values())
        while waiting:
            node = waiting.pop()
            nodes.append(node)
            waiting += node.children.values()
        return nodes


def _shared_length(first: Sequence[Any], second: Sequence[Any]) -> int:
    differ = (place for place, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1])
    return len(first) if first == second else next(differ, min(len(first), len(second)))


class SlotCache(Cache):
    """Keys and values of the requests that run: one row each, from the left, the rows in use first.

    So requests of any length join and leave between two tokens, and only their own row is copied. Which rows the next
    call of the model writes is said before it with [`~SlotCache.expect`].

    Args:
        num_layers (`int`): layers of the language model.
    """

    def __init__(self, num_layers: int):
        super().__init__(layers=[_SlotLayer(self) for _ in range(num_layers)])
        self.lengths: list[int] = []
        """Tokens of each row in use."""
        self.batch: RaggedBatch | None = None
        self.room = (0, 0)

    def add(self, pieces: Sequence[tuple[Layers, int]], room: int) -> int:
        """Take a row into use.

        Args:
            pieces (`Sequence`): kept keys and values to begin with, as of [`PrefixTree.match`].
            room (`int`): tokens that the row will have when its prompt is read.

        Returns:
            `int`: the number of the row.
        """
        row = len(self.lengths)
        self._make_room(row + 1, room)
        start = 0
        for layers, count in pieces:
            for layer, kept in zip(self.layers, layers, strict=True):
                layer.allocate(*(tensor[None] for tensor in kept))
                for room, tensor in zip(layer.rooms, kept, strict=True):
                    room[row, :, start : start + count] = tensor[:, :count]
            start += count
        self.lengths.append(start)
        return row

    def remove(self, row: int) -> None:
        """Give a row back; the last row takes its place."""
        last = len(self.lengths) - 1
        if row != last:
            length = self.lengths[last]
            for room in (room for layer in self.layers for room in layer.rooms):
                room[row, :, :length] = room[last, :, :length]
            self.lengths[row] = length
        self.lengths.pop()
        if not self.lengths:  # nothing runs: the memory goes back
            self.room = (0, 0)
            for layer in self.layers:
                layer.release()

    def read(self, row: int, start: int, end: int) -> Layers:
        """Keys and values of tokens of a row; not copied."""
        return [tuple(room[row, :, start:end] for room in layer.rooms) for layer in self.layers]

    def expect(self, counts: dict[int, int], device: torch.device) -> RaggedBatch:
        """Let the next call of the model write new tokens behind rows.

        The rows count as longer only when their `lengths` are raised, so what turns out to be wrong is written over.

        Args:
            counts (`dict[int, int]`): number of new tokens by row, in the order of the call.
            device (`torch.device`): of the model.
        """
        self.batch = RaggedBatch([(row, self.lengths[row], count) for row, count in counts.items()], device)
        self._make_room(len(self.lengths), self.batch.width)
        return self.batch

    @property
    def num_bytes(self) -> int:
        """Memory of the buffers."""
        return sum(room.nbytes for layer in self.layers for room in layer.rooms)

    def _make_room(self, rows: int, tokens: int) -> None:
        if rows <= self.room[0] and tokens <= self.room[1]:
            return
        # Rows double and tokens grow in steps, so that growing is rare.
        grown = rows if rows <= self.room[0] else max(rows, 2 * self.room[0])
        self.room = (max(grown, self.room[0]), max(-(-tokens // 256) * 256, self.room[1]))
        for layer in self.layers:
            layer.grow()


class _SlotLayer(DynamicLayer):
    """One layer of a [`SlotCache`]."""

    def __init__(self, slots: SlotCache):
        super().__init__()
        self.slots = slots
        self.rooms: tuple[torch.Tensor, ...] = ()
        """Buffers of keys and values, of shape `(rows, num_kv_heads, tokens, head_dim)`; empty while none is held."""

    def allocate(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        if not self.rooms:
            self.rooms = self._zeros_like((keys, values))
            self.dtype, self.device = keys.dtype, keys.device
            self.is_initialized = True

    def grow(self) -> None:
        if not self.rooms:
            return
        # Where there is no memory for larger buffers, the rows are still in the old ones.
        before, self.rooms = self.rooms, self._zeros_like(self.rooms)
        used, width = len(self.slots.lengths), max(self.slots.lengths, default=0)
        for room, old in zip(self.rooms, before, strict=True):
            room[:used, :, :width] = old[:used, :, :width]

    def _zeros_like(self, tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        rows, tokens = self.slots.room
        # Zeros: what a mask hides is multiplied by zero, which leaves a NaN a NaN.
        return tuple(tensor.new_zeros(rows, tensor.shape[1], tokens, tensor.shape[3]) for tensor in tensors)

    def release(self) -> None:
        self.rooms, self.is_initialized = (), False

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new keys and values; returns the whole buffers, for [`ragged_attention`]."""
        self.allocate(key_states, value_states)
        batch = self.slots.batch
        for room, states in zip(self.rooms, (key_states[0], value_states[0]), strict=True):
            if len(batch.spans) == 1:
                [span] = batch.spans
                room[span.row, :, span.start : span.end] = states
            else:
                room[batch.rows, :, batch.columns] = states.transpose(0, 1)
        return self.rooms

    def get_seq_length(self) -> int:
        return max(self.slots.lengths, default=0)
