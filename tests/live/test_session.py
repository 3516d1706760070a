"""Questions about a stream: what is read again, what is remembered, which time is meant."""

from collections.abc import Generator
from datetime import datetime
from itertools import pairwise

import pytest
import torch

from tests.live.streams import stream
from videollm.chat.load import load_to_chat
from videollm.encoders.base import FrameFeatures
from videollm.errors import VideoRangeError
from videollm.inference.engine import LocalEngine, PromptCache
from videollm.inference.sampling import GenerationConfig, Token
from videollm.live.memory import LiveSegment, StreamMemory
from videollm.live.session import LONGEST_WINDOW_S, WINDOW_S, LiveSession
from videollm.live.standing import StandingQuestion, thing_of
from videollm.live.window import asked_window, format_clock, with_clock_times
from videollm.model import Model
from videollm.models.processor import Prompt

START = datetime(2026, 5, 31, 14, 5, 0).timestamp()


@pytest.fixture(scope="module")
def model() -> Model:
    return load_to_chat("debug")


def watched(model: Model, seconds: int) -> LiveSession:
    session = LiveSession(model, "camera", fps=2)
    for pixels, times in stream(START, seconds, fps=2):
        session.add(pixels, times, model.encoder.encode_frames(pixels))
    return session


def test_a_new_segment_costs_its_own_tokens_only(model: Model):
    session = watched(model, 40)
    session.read_ahead()
    first = session.ask("What is it?").receipt
    assert first.cached_tokens > 0.6 * first.prompt_tokens  # read ahead; the rest is the open segment and the question
    for pixels, times in stream(START + 40, 4, fps=2):
        session.add(pixels, times, model.encoder.encode_frames(pixels))
    answer = session.ask("What is it?")
    alone = answer.receipt.prompt_tokens - answer.receipt.cached_tokens
    assert (
        answer.receipt.cached_tokens >= first.cached_tokens and alone < first.prompt_tokens - first.cached_tokens + 60
    )
    assert answer.text == watched(model, 44).ask("What is it?").text  # as if everything were read anew


class CountingEngine:
    """Runs the language model in this process, and counts the prompt tokens that it has to read."""

    def __init__(self, model: Model):
        self._engine, self.read = LocalEngine(model.llm, model.processor.stop_ids), list[int]()

    def stream(self, prompt: Prompt, cache: PromptCache, generation: GenerationConfig) -> Generator[Token]:
        try:
            yield from self._engine.stream(prompt, cache, generation)
        finally:
            self.read.append(len(prompt.ids) - cache.reused)


def test_the_tokens_read_for_a_segment_do_not_grow_with_the_window(model: Model):
    engine = CountingEngine(model)
    session, whole = LiveSession(model, "camera", fps=2, engine=engine), list[int]()
    for pixels, times in stream(START, 84, fps=2):
        if session.add(pixels, times, model.encoder.encode_frames(pixels)):
            session.read_ahead()
            whole.append(session._read)
    first, *further = engine.read
    added = [after - before for before, after in pairwise(whole)]
    assert len(further) >= 20 and further == added and first == whole[0]  # no token is read twice
    assert max(further) <= min(further) + 8 and whole[-1] > 10 * max(further)


def test_the_window_slides_in_steps(model: Model):
    session, reread = LiveSession(model, "camera", fps=2), 0
    for pixels, times in stream(START, 200, fps=2):
        if session.add(pixels, times, model.encoder.encode_frames(pixels)):
            reread += session._read == 0
            session.read_ahead()
            span = times[-1] - session._rolling[0].start
            assert span <= LONGEST_WINDOW_S + 8
    assert span >= WINDOW_S - 8
    assert 2 <= reread - 1 <= 2 + (200 - LONGEST_WINDOW_S) / (LONGEST_WINDOW_S - WINDOW_S)
    answer = session.ask("What is it?")
    assert answer.start >= START + 200 - LONGEST_WINDOW_S - 8
    fresh = session.ask_about("What is it?", session.segments(answer.start))
    assert fresh.evidence == answer.evidence


def test_answers_name_the_time_that_is_asked_about(model: Model):
    session = watched(model, 120)
    now = session.ask("What is it now?")
    assert now.end == pytest.approx(START + 120, abs=1) and now.start >= START + 105
    since = session.ask("What happened since 14:05:30?")
    assert since.start == pytest.approx(START + 30, abs=5) and since.end == now.end
    assert all(START + 25 <= e.start < e.end <= START + 121 for e in since.evidence)
    moment = session.ask("What is shown at 14:05:10?")
    assert moment.start <= START + 10 < moment.end
    with pytest.raises(VideoRangeError, match="nothing is remembered of 13:00:00; it is remembered since 14:05:00"):
        session.ask("What is shown at 13:00?")
    assert session.ask("What is it?", since=START + 60).start == pytest.approx(START + 60, abs=5)


def test_words_that_say_when():
    latest = datetime(2026, 5, 31, 14, 10, 0).timestamp()
    for question, text, start in (
        ("What happened in the last 5 minutes?", "What happened?", latest - 300),
        ("In the last minute, who was there?", "Who was there?", latest - 60),
        ("What is there now?", "What is there?", latest - 8),
        ("Was there a dog since 14:09?", "Was there a dog?", latest - 60),
        ("Who was there at 15:00:00?", "Who was there?", datetime(2026, 5, 30, 15, 0, 0).timestamp()),
        ("What is it?", "What is it?", None),
    ):
        asked = asked_window(question, latest)
        assert (asked.text, asked.start) == (text, start)
    assert with_clock_times("From 0:04 to 1:08, not 9:59.", 100, START) == "From 14:05:04 to 14:06:08, not 9:59."
    assert format_clock(START) == "14:05:00"


def test_memory_is_bounded_and_keeps_what_differs(model: Model):
    vocabulary, prompt = model.encoder.vocabulary, model.config.prompt
    memory, torch_seed = StreamMemory(vocabulary, prompt, max_frames=4, max_segments=40), torch.manual_seed(0)
    usual, rare = torch.randn(8, generator=torch_seed), torch.randn(8, generator=torch_seed)
    concepts = torch.full((4, len(vocabulary.words)), 0.01)
    for number in range(1000):
        embed = (rare if number == 500 else usual).expand(4, 8) + 0.01 * torch.randn(4, 8, generator=torch_seed)
        parts = FrameFeatures(torch.zeros(4, 1, 8), torch.nn.functional.normalize(embed, dim=-1), concepts)
        start = START + 4 * number
        memory.add(LiveSegment(start, start + 4, start + torch.arange(4, dtype=torch.float64), parts, ()))
    kept = list(memory)
    assert (
        len(kept) == 40 and memory.nbytes == sum(s.nbytes for s in kept) < 40 * 4 * 4 * (16 + len(vocabulary.words)) + 1
    )
    assert sum(s.merged for s in kept) == 1000 and [s.merged for s in kept[-32:]] == [1] * 32
    assert all(a.end == b.start for a, b in pairwise(kept))
    (event,) = memory.between(START + 2000, START + 2004)
    assert event.merged == 1  # though it is old


def test_standing_questions_report_once(model: Model):
    assert [thing_of(t) for t in ("a dog appears", "smoke", "when the red car arrives", "there is a cat")] == [
        "dog",
        "smoke",
        "red car",
        "cat",
    ]
    waits = StandingQuestion("a lamp appears", model.encoder)
    lamp = model.encoder.encode_text(["lamp"]).embed.expand(8, -1)
    # The other is as far from the words as can be.
    shown, hidden = (FrameFeatures(embed[:, None], embed, torch.zeros(8, 1)) for embed in (lamp, -lamp))
    assert waits.see([1.0], shown[:1]) == []  # one frame is no evidence
    (begins,) = waits.see([2.0, 3.0, 4.0], shown[:3])
    assert (begins.state, begins.time) == ("begins", 1.0) and begins.score > 0.85
    assert waits.see([5.0, 6.0, 7.0], FrameFeatures.cat([hidden[:2], shown[:1]])) == []  # it flickers
    (ends,) = waits.see([8.0, 9.0, 10.0, 11.0], hidden[:4])
    assert (ends.state, ends.time) == ("ends", 8.0)
