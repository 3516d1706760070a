"""Sessions on the debug model and a real file: streaming, reuse, history, fitting, saving."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from videollm.chat.answer import Answer
from videollm.chat.session import ChatSession
from videollm.checkpoint import Model, load
from videollm.config import PromptConfig, SamplingConfig
from videollm.errors import CheckpointError, ContextOverflowError
from videollm.features.cache import FeatureCache
from videollm.features.encode import EncodedVideo, encode_video
from videollm.inference.sampling import GenerationConfig
from videollm.models.processor import Message, Processor
from videollm.senses.finding import Finding, Findings

SAMPLE = Path(__file__).parents[2] / "scripts/samples/sample.mp4"
SHORT = GenerationConfig(max_new_tokens=12)


@pytest.fixture(scope="module")
def model() -> Model:
    return load("debug")


@pytest.fixture(scope="module")
def video(model: Model) -> EncodedVideo:
    return encode_video(SAMPLE, model.encoder, SamplingConfig(fps=2.0))


def shrunk(model: Model, context: int) -> Model:
    config = replace(model.config, prompt=PromptConfig(context=context, max_new_tokens=8))
    return replace(model, config=config, processor=Processor(model.processor.tokenizer, config))


def test_stream_gives_the_answer_in_pieces(model: Model, video: EncodedVideo):
    items = list(ChatSession(model, video).stream("What is it?", SHORT))
    assert isinstance(items[-1], Answer)
    assert all(isinstance(i, str) for i in items[:-1])
    assert "".join(items[:-1]).strip().startswith(items[-1].text.rstrip("\ufffd"))


def test_second_turn_equals_a_fresh_session_with_the_same_history(model: Model, video: EncodedVideo):
    session = ChatSession(model, video)
    turns = ["What is it?", "And then?", "Is there a cat?"]
    for turn in turns:
        fresh = ChatSession(model, video, messages=list(session.messages))
        again = fresh.ask(turn, SHORT)
        answer = session.ask(turn, SHORT)
        assert answer.text == again.text
        assert again.receipt.cached_tokens == 0
    assert answer.receipt.cached_tokens > 0.7 * answer.receipt.prompt_tokens


def test_the_video_is_paid_for_once(model: Model):
    session = ChatSession(model, SAMPLE, sampling=SamplingConfig(frames=8))
    first, second = session.ask("One?", SHORT), session.ask("Two?", SHORT)
    assert first.receipt.ms["decode"] > 0 < first.receipt.ms["encode"]
    assert second.receipt.ms["decode"] == second.receipt.ms["encode"] == 0
    assert first.receipt.frames == len(first.receipt.times_s) == 8


def test_features_come_from_the_cache_the_second_time(model: Model, tmp_path: Path):
    cache = FeatureCache(tmp_path)
    a = encode_video(SAMPLE, model.encoder, SamplingConfig(frames=4), cache)
    b = encode_video(SAMPLE, model.encoder, SamplingConfig(frames=4), cache)
    assert a.ms["decode"] > 0 == b.ms["decode"]
    assert torch.equal(a.features.tokens, b.features.tokens) and torch.equal(a.times_s, b.times_s)
    assert (a.cuts, a.end_s, a.info) == (b.cuts, b.end_s, b.info)


def test_evidence_lies_in_the_video_and_is_ordered(model: Model, video: EncodedVideo):
    answer = ChatSession(model, video).ask("What is it?", SHORT)
    scores = [e.score for e in answer.evidence]
    assert scores == sorted(scores, reverse=True) and scores
    assert all(0 <= e.start_s < e.end_s <= video.info.duration_s for e in answer.evidence)


def test_a_closed_stream_leaves_no_trace(model: Model, video: EncodedVideo):
    session = ChatSession(model, video)
    stream = session.stream("What is it?", SHORT)
    next(stream)
    stream.close()
    assert session.messages == []
    assert session.ask("Again?", SHORT).text == ChatSession(model, video).ask("Again?", SHORT).text


def test_segments_are_merged_to_fit_and_the_receipt_says_so(model: Model, video: EncodedVideo):
    whole = ChatSession(model, video)
    need = whole.ask("Hi?", GenerationConfig(max_new_tokens=8)).receipt.prompt_tokens
    session = ChatSession(shrunk(model, need - 40), video)
    receipt = session.ask("Hi?").receipt
    assert receipt.prompt_tokens + 8 <= need - 40
    assert receipt.merged_from == len(whole.segments) > receipt.segments
    assert receipt.truncated


def test_a_conversation_that_cannot_fit_is_refused(model: Model, video: EncodedVideo):
    session = ChatSession(shrunk(model, 100), video)
    with pytest.raises(ContextOverflowError, match="the context is 100"):
        session.ask("Hi?" * 40)
    assert session.messages == []


def test_old_turns_are_left_out_to_fit_and_the_receipt_says_so(model: Model, video: EncodedVideo):
    one = ChatSession(model, video).ask("What is it, number 1?", SHORT).receipt.prompt_tokens
    session = ChatSession(shrunk(model, one + 600), video)
    receipts = [session.ask(f"What is it, number {n}?", SHORT).receipt for n in range(1, 20)]
    dropped = [receipt.dropped_turns for receipt in receipts]
    assert dropped[0] == 0 < dropped[-1] and sorted(set(dropped)) == list(range(0, max(dropped) + 1, 4))
    assert all(r.prompt_tokens + 8 <= one + 600 and r.merged_from is None for r in receipts)
    assert len(session.messages) == 2 * len(receipts)  # the history keeps all turns


def test_the_longest_answer_is_a_cap_and_no_reservation(model: Model, video: EncodedVideo):
    need = ChatSession(model, video).ask("Hi?", SHORT).receipt.prompt_tokens
    context = need + model.config.prompt.max_new_tokens + 5
    receipt = ChatSession(shrunk(model, context), video).ask("Hi?", GenerationConfig(max_new_tokens=4096)).receipt
    assert receipt.prompt_tokens == need and receipt.merged_from is None
    assert receipt.completion_tokens <= context - need


def test_save_and_resume_without_the_video(model: Model, video: EncodedVideo, tmp_path: Path):
    session = ChatSession(model, video)
    session.ask("What is it?", SHORT)
    session.save(tmp_path / "talk.safetensors")
    resumed = ChatSession.resume(model, tmp_path / "talk.safetensors")
    assert resumed.messages == session.messages
    assert resumed.ask("And?", SHORT).text == session.ask("And?", SHORT).text


def test_resume_refuses_other_files_and_other_models(model: Model, video: EncodedVideo, tmp_path: Path):
    (tmp_path / "text").write_text("no")
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    for name in ("text", "other", "absent"):
        with pytest.raises(CheckpointError, match=name):
            ChatSession.resume(model, tmp_path / name)
    ChatSession(model, video).save(tmp_path / "talk")
    with pytest.raises(CheckpointError, match="was saved with configuration"):
        ChatSession.resume(shrunk(model, 500), tmp_path / "talk")


def test_sampling_is_repeatable_by_seed_and_varies_without(model: Model, video: EncodedVideo):
    def ask(seed: int) -> str:
        return (
            ChatSession(model, video).ask("Hi?", GenerationConfig(max_new_tokens=12, temperature=2.0, seed=seed)).text
        )

    assert ask(1) == ask(1) != ask(2)


def test_part_keeps_frames_and_cuts_of_the_span(model: Model, video: EncodedVideo):
    second = video.segments(model.config, model.encoder.vocabulary)[1]
    part = video.part(second.start_s, second.end_s)
    assert torch.equal(part.times_s, second.times_s)
    assert part.end_s == second.end_s and part.cuts == ()


def test_what_the_senses_found_is_in_the_prompt_in_the_evidence_and_in_a_saved_session(
    model: Model, video: EncodedVideo, tmp_path: Path
):
    said = Finding(start_s=1.0, end_s=2.0, kind="speech", text="Look, a cat.", score=0.9)
    heard = replace(video, findings=Findings(senses=("speech",), found=(said,)), ms={**video.ms, "speech": 7.0})
    session = ChatSession(model, heard)
    prompt = model.processor([Message("user", "Hi?")], session.segments)
    text = model.processor.tokenizer.decode([i for i in prompt.ids if i >= 0])
    assert "heard: speech" in text and text.count('"Look, a cat."') == 1
    answer = session.ask("Hi?", SHORT)
    assert answer.receipt.ms["speech"] == 7.0 and session.ask("Again?", SHORT).receipt.ms["speech"] == 0
    assert (said,) in [e.findings for e in answer.evidence]
    session.save(tmp_path / "talk")
    assert ChatSession.resume(model, tmp_path / "talk").video.findings.found == (said,)
