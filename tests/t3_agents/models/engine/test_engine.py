"""The decoder behind `VLMModel`, step by step: who joins, who leaves, what is kept, and what survives."""

import signal
import threading
import time
from contextlib import contextmanager

import pytest
import torch
from PIL import Image

from t3_agents.interruption import InterruptedTurn, Interruption
from t3_agents.models.engine.continuous_batching import ContinuousBatchingDecoder
from t3_agents.models.engine.engine import Engine
from t3_agents.models.engine.request import Request
from t3_agents.models.vlm import VLMModel
from tests.helpers.conversations import stock_ids


RED, BLUE = Image.new("RGB", (96, 64), "red"), Image.new("RGB", (96, 64), "blue")
SYSTEM = "Solve the task step by step. In each step write a thought, then code. "


@pytest.fixture(scope="module")
def loaded(tiny_vlm):
    return VLMModel.from_pretrained(tiny_vlm)


@pytest.fixture
def engine(loaded):
    return Engine(loaded.model, loaded.encoder)


@pytest.fixture
def make_request(loaded):
    def make_request(text="hello", images=(), stops=(), system="", **settings):
        content = [{"type": "image"} for _ in images] + [{"type": "text", "text": text}]
        messages = [{"role": "user", "content": content}]
        if system:
            messages.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
        conversation = loaded.encoder.encode(messages, images, add_generation_prompt=True)
        return Request(conversation, stops, {"max_new_tokens": 12, "do_sample": False, **settings})

    return make_request


@pytest.fixture
def alone(loaded):
    """What stock transformers produces for a request."""

    def alone(request):
        settings = {name: value for name, value in request.settings.items() if name != "seed"}
        return stock_ids(loaded, request.conversation.ids, request.conversation.images, **settings)

    return alone


def run(decoder, *arrivals):
    """Steps of a decoder until all requests are done; `arrivals[n]` join in step n. Gives what is done by step."""
    waiting, history, number = [], [], 0

    def take():
        return waiting.pop(0) if waiting else None

    while number < len(arrivals) or waiting or decoder._rows or decoder._again:
        waiting.extend(arrivals[number] if number < len(arrivals) else [])
        history.append(decoder.step(take))
        number += 1
        assert number < 500
    return history


class TestJoiningAndLeaving:
    def test_requests_join_a_running_batch(self, engine, make_request, alone):
        texts = ["What is it?", "go on " * 30, "x", "Observation: 12.50"]
        requests = [*map(make_request, texts, [[], [RED], [RED, BLUE], []])]
        run(engine.decoder, requests[:1], [], [], requests[1:3], [], requests[3:])
        assert [r.output_ids for r in requests] == [alone(r) for r in requests]
        assert {r.batch_size for r in requests} == {4}

    def test_each_has_its_own_length_and_settings(self, engine, make_request, alone):
        requests = [
            make_request(max_new_tokens=2),
            make_request("other", max_new_tokens=9, repetition_penalty=1.8),
            make_request(max_new_tokens=5, min_new_tokens=4),
        ]
        history = run(engine.decoder, requests)
        assert [r.output_ids for r in requests] == [alone(r) for r in requests]
        assert [len(done) for done in history[:2]] == [1, 0] and requests[0] in history[0]

    def test_a_finished_row_leaves_and_the_next_takes_its_place(self, loaded, make_request, alone):
        decoder = Engine(loaded.model, loaded.encoder, max_batch_size=2).decoder
        requests = [make_request(f"hello {n}", max_new_tokens=3 + 2 * n) for n in range(5)]
        history = run(decoder, requests)
        assert [r.output_ids for r in requests] == [alone(r) for r in requests]
        assert max(r.batch_size for r in requests) == 2
        assert [r for done in history for r in done] == requests, "first come, first served"

    def test_each_has_its_own_stop_strings(self, engine, loaded, make_request):
        whole = make_request()
        run(engine.decoder, [whole])
        stop = loaded.encoder.decode(whole.output_ids[3:5])
        end = next(n for n in range(13) if stop in loaded.encoder.decode(whole.output_ids[:n]))
        requests = [make_request(stops=("never",)), make_request(stops=("never", stop)), make_request()]
        run(engine.decoder, requests)
        assert requests[0].output_ids == requests[2].output_ids == whole.output_ids
        assert requests[1].output_ids == whole.output_ids[:end] and 0 < end < 12

    def test_the_end_of_turn_ends_a_row(self, engine, loaded, make_request):
        whole = make_request()
        run(engine.decoder, [whole])
        token = whole.output_ids[4]
        request = make_request(eos_token_id=[token, 2])
        run(engine.decoder, [request])
        assert request.output_ids == whole.output_ids[: whole.output_ids.index(token) + 1]

    def test_memory_of_the_batch_goes_back(self, engine, make_request):
        run(engine.decoder, [make_request(), make_request("other")])
        assert engine.decoder._slots.num_bytes == 0


class TestKeptPrefixes:
    def test_requests_of_one_batch_share_a_system_prompt(self, engine, make_request, alone):
        requests = [make_request(text, system=SYSTEM) for text in ("one", "two", "three")]
        run(engine.decoder, requests)
        assert requests[0].cached_tokens == 0 and min(r.cached_tokens for r in requests[1:]) > 15
        assert [r.output_ids for r in requests] == [alone(r) for r in requests]
        held = {tuple(r.keys[:16]) for r in requests}
        total = sum(len(r.keys) + 11 for r in requests)
        shared = sum(r.cached_tokens for r in requests)
        assert len(held) == 1 and engine.decoder.tree.num_tokens == total - shared, "what is common is held once"

    def test_what_is_held_is_what_is_counted(self, engine, make_request):
        run(engine.decoder, [make_request(f"{n}", system=SYSTEM) for n in range(5)])
        tree, config = engine.decoder.tree, engine.model.config.get_text_config()
        size = config.num_hidden_layers * 2 * config.num_key_value_heads * config.head_dim * 8
        storages = {
            t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
            for n in tree._nodes()
            for layer in n.layers
            for t in layer
        }
        assert engine.decoder.cached_bytes == tree.num_tokens * size == sum(storages.values())

    @pytest.mark.parametrize("bound", [0, 30, 100, 250])
    def test_the_bound_holds_over_many_tasks(self, loaded, make_request, alone, bound):
        engine = Engine(loaded.model, loaded.encoder, max_cached_tokens=bound)
        for number in range(15):
            requests = [make_request(f"{number} {n}", system=SYSTEM) for n in range(3)]
            run(engine.decoder, requests)
            assert engine.decoder.tree.num_tokens <= bound
            assert bool(engine.decoder.tree.num_tokens) == bool(bound)
        assert requests[2].output_ids == alone(requests[2])
        assert (requests[2].cached_tokens > 15) == (bound >= 30)

    def test_the_least_recently_used_goes_first(self, loaded, make_request):
        engine = Engine(loaded.model, loaded.encoder, max_cached_tokens=100)
        for text in ("a", "b", "a", "c " * 20):
            run(engine.decoder, [make_request(text, max_new_tokens=2)])
        again = make_request("a", max_new_tokens=2)
        run(engine.decoder, [again])
        assert again.cached_tokens == len(again.keys) - 1


class FullMemory(ContinuousBatchingDecoder):
    """Runs out of memory in given calls of the model, counted from 0."""

    def __init__(self, engine, *failing, error=None):
        super().__init__(engine.model, engine.encoder, engine.decoder.positions, 16, 32768, 12)
        self.calls, self.failing = 0, failing
        self.error = error or torch.OutOfMemoryError("CUDA out of memory.")
        self.model = self._counting(engine.model)

    def _counting(self, model):
        decoder = self

        class Counting(torch.nn.Module):
            config, device, generate = model.config, model.device, model.generate

            def forward(self, **inputs):
                decoder.calls += 1
                if decoder.calls - 1 in decoder.failing:
                    raise decoder.error
                return model(**inputs)

        return Counting()


class TestFailures:
    @pytest.mark.parametrize("call", [0, 2, 3, 4, 6], ids=lambda n: f"call {n}")
    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory."),
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            MemoryError(),
        ],
        ids=lambda e: type(e).__name__,
    )
    def test_a_full_memory_halves_the_batch(self, engine, make_request, alone, call, error):
        requests = [make_request(f"hello {n}") for n in range(4)]
        decoder = FullMemory(engine, call, error=error)
        # Something is kept, that may be given back.
        decoder.tree.insert([-1], lambda start, end: [(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))])
        run(decoder, requests)
        assert [r.error for r in requests] == [None] * 4
        assert [r.output_ids for r in requests] == [alone(r) for r in requests]

    def test_a_request_that_never_fits_fails_alone(self, engine, make_request):
        requests = [make_request(), make_request("other")]
        run(FullMemory(engine, *range(1000)), requests)
        assert all(isinstance(r.error, torch.OutOfMemoryError) for r in requests)

    def test_a_prompt_that_fails_leaves_the_others(self, engine, make_request, alone):
        requests = [make_request(f"hello {n}") for n in range(3)]
        run(FullMemory(engine, 1, error=ValueError("bad picture")), requests)
        assert [type(r.error) for r in requests] == [type(None), ValueError, type(None)]
        assert requests[2].output_ids == alone(requests[2])

    def test_a_batch_that_fails_once_is_computed_again(self, engine, make_request, alone):
        requests = [make_request(f"hello {n}") for n in range(3)]
        run(FullMemory(engine, 5, error=ValueError("no reason")), requests)
        assert [r.output_ids for r in requests] == [alone(r) for r in requests]

    def test_settings_that_fail_while_decoding_are_of_one_request(self, engine, make_request, alone):
        def explode(batch_id, ids):
            raise ValueError("not allowed")

        requests = [make_request("a"), make_request("b", prefix_allowed_tokens_fn=explode), make_request("c")]
        done = [request for finished in run(engine.decoder, requests) for request in finished]
        assert len(done) == 3, "each is done once"
        assert "not allowed" in str(requests[1].error)
        assert [requests[n].output_ids for n in (0, 2)] == [alone(requests[n]) for n in (0, 2)]


class Stopped(BaseException):
    pass


@contextmanager
def stopped_after(seconds):
    """An exception in the middle of whatever the main thread does then."""

    def stop(*_):
        raise Stopped

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with pytest.raises(Stopped):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class TestInterruption:
    def test_a_cancelled_request_leaves_the_batch(self, engine, make_request, alone):
        requests = [make_request(f"hello {n}") for n in range(3)]
        requests[1].interruption = Interruption()
        waiting = list(requests)
        for _ in range(4):
            engine.decoder.step(lambda: waiting.pop(0) if waiting else None)
        requests[1].interruption.cancel()
        assert run(engine.decoder, [])[0] == [requests[1]]
        assert isinstance(requests[1].error, InterruptedTurn) and len(requests[1].output_ids) < 12
        assert [requests[n].output_ids for n in (0, 2)] == [alone(requests[n]) for n in (0, 2)]

    def test_a_deadline_ends_a_turn(self, engine, make_request):
        interruption = Interruption()

        def allow(batch_id, ids):
            if len(ids) > 40:
                interruption.deadline = time.monotonic()
            return list(range(3, 400))

        request = make_request("hello " * 10, max_new_tokens=3000, prefix_allowed_tokens_fn=allow)
        request.interruption = interruption
        with pytest.raises(InterruptedTurn, match="time is up"):
            engine.generate(request)
        assert 0 < len(request.output_ids) < 100

    def test_a_leader_that_is_interrupted_leaves_the_others_running(self, engine, make_request, alone):
        """The thread that runs the model for everybody gets an exception in the middle of a step."""
        others = [make_request(f"hello {n}", max_new_tokens=300) for n in range(3)]
        threads = [threading.Thread(target=engine.generate, args=(r,)) for r in others]
        with stopped_after(0.4):
            first = make_request(max_new_tokens=3000)
            starter = threading.Timer(0.1, lambda: [thread.start() for thread in threads])
            starter.start()
            engine.generate(first)
        starter.join(120)
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert [r.output_ids for r in others] == [alone(r) for r in others]

    def test_a_caller_that_is_interrupted_while_it_waits(self, engine, make_request):
        """Nobody waits for ever for a leader, and an abandoned request takes no place."""
        long = make_request(max_new_tokens=1000)
        leader = threading.Thread(target=engine.generate, args=(long,))
        leader.start()
        with stopped_after(0.3):
            engine.generate(make_request("other", max_new_tokens=3000))
        leader.join(120)
        assert not leader.is_alive() and len(long.output_ids) == 1000
        assert engine._waiting == engine.decoder._again == type(engine._waiting)() and engine.decoder._rows == []
