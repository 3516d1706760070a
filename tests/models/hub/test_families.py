"""Every family of transformers' video models, tiny and random: our answers are those of the model's own processor and
`generate` on the same frames and messages."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.video_utils import VideoMetadata

from scripts.tiny_hub.__main__ import write
from scripts.tiny_hub.families import FAMILIES as TINY
from videollm import checkpoint
from videollm.chat.session import ChatSession
from videollm.checkpoint import Model
from videollm.config import SamplingConfig
from videollm.datasets.schema import Message
from videollm.encoders.debug import DebugEncoder
from videollm.encoders.pixels import PixelEncoder
from videollm.errors import ConfigError
from videollm.features.encode import EncodedVideo, encode_video
from videollm.inference.engine import LocalEngine, PromptCache
from videollm.inference.sampling import GenerationConfig
from videollm.models.hub.families import FAMILIES
from videollm.models.hub.instruct import InstructBlip
from videollm.models.processor import Prompt

SAMPLE = Path(__file__).parents[3] / "scripts/samples/sample.mp4"
SHORT = GenerationConfig(max_new_tokens=4)
QUESTION = "What is it?"


@dataclass(frozen=True)
class Case:
    """A family's model, and a video of six frames and a picture for it."""

    family: str
    model: Model
    video: EncodedVideo
    picture: EncodedVideo


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Products of these sizes take longer on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def videos() -> list[EncodedVideo]:
    """Small frames: a model's own encoder would give larger ones, which its tiny processor makes small again."""
    encoder = PixelEncoder(DebugEncoder(), 64)
    return [encode_video(SAMPLE, encoder, SamplingConfig(frames=frames)) for frames in (6, 1)]


@pytest.fixture(scope="module", params=list(TINY))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, videos: list[EncodedVideo]) -> Case:
    folder = tmp_path_factory.mktemp("tiny") / request.param
    write(request.param, folder)
    model = checkpoint.load(str(folder), evidence_encoder="debug")
    model.llm.float()  # in bfloat16, tokens that are about as likely could change places with the order of sums
    return Case(request.param, model, *videos)


def generate(model: Model, arguments: dict[str, Any]) -> list[int]:
    """The tokens that transformers' own `generate` adds, without those that end an answer."""
    stop = model.processor.stop_ids
    generator = model.llm.language_model
    if isinstance(generator, InstructBlip) and "pixel_values" not in arguments:
        generator = generator.language_model  # its own `generate` needs a video
    made = generator.generate(**arguments, max_new_tokens=4, do_sample=False, eos_token_id=sorted(stop), pad_token_id=1)
    return [i for i in made[0, arguments["input_ids"].shape[1] :].tolist() if i not in stop]


def of_prompt(model: Model, prompt: Prompt) -> list[int]:
    arguments = model.llm._arguments(prompt)  # type: ignore[union-attr]
    return generate(model, arguments | {"attention_mask": torch.ones_like(arguments["input_ids"])})


def ours(model: Model, prompt: Prompt) -> list[int]:
    engine = LocalEngine(model.llm, model.processor.stop_ids)
    return [token.id for token in engine.stream(prompt, PromptCache(), SHORT)]


def of_template(model: Model, kind: str) -> str:
    """What the chat template writes for the question about a video or an image."""
    own: Any = model.processor
    return own.processor.apply_chat_template(
        [{"role": "user", "content": [{"type": kind}, {"type": "text", "text": QUESTION}]}],
        chat_template=own.chat_template,
        tokenize=False,
        add_generation_prompt=True,
    )


def arguments_of(case: Case) -> tuple[EncodedVideo, dict[str, Any]]:
    """The video and what the model's own processor makes of it and the question."""
    model, video = case.model, case.video
    processor = model.processor.processor  # type: ignore[attr-defined]
    if case.family == "instructblipvideo":  # it reads four frames, and has no chat template
        video = replace(video, times_s=video.times_s[:4], features=video.features[:4])
        return video, processor(text=[QUESTION], images=[video.features.tokens], return_tensors="pt")
    milliseconds = [round(1000 * t) for t in video.times_s.tolist()]
    total = round((milliseconds[-1] - milliseconds[0]) * 6 / 5)
    return video, processor(
        text=[of_template(model, "video")],
        videos=[video.features.tokens],
        video_metadata=[VideoMetadata(total_num_frames=total, fps=1000.0, frames_indices=milliseconds)],
        do_sample_frames=False,
        return_tensors="pt",
        **({"fps": 0.5} if "omni" in case.family else {}),  # its processor does not read the times
    )


def test_prompt_and_tokens_are_those_of_transformers(case: Case):
    model = case.model
    video, arguments = arguments_of(case)
    session = ChatSession(model, video)
    prompt = model.processor([Message("user", QUESTION)], session.segments)
    assert prompt.arguments()["input_ids"].tolist() == arguments["input_ids"].tolist()  # type: ignore[attr-defined]
    assert session.ask(QUESTION, SHORT).text == model.processor.decode(generate(model, arguments))


def test_the_prompt_about_a_picture_is_that_of_transformers(case: Case):
    model = case.model
    processor = model.processor.processor  # type: ignore[attr-defined]
    pixels = case.picture.features.tokens
    if case.family == "instructblipvideo":  # its own processor has tokens for four frames, no more and no fewer
        expected = processor(text=[QUESTION], images=[pixels.repeat(4, 1, 1, 1)], return_tensors="pt")["input_ids"]
        expected = expected[:, 3 * processor.num_query_tokens :]
    else:
        expected = processor(text=[of_template(model, "image")], images=[pixels[0]], return_tensors="pt")["input_ids"]
    made = model.processor([Message("user", QUESTION)], ChatSession(model, case.picture).segments)
    assert made.arguments()["input_ids"].tolist() == expected.tolist()  # type: ignore[attr-defined]


def test_the_next_turn_reads_only_what_is_new(case: Case):
    """Two conversations take turns, so that what the model itself remembers of one would show in the other."""
    one, two = ChatSession(case.model, case.video), ChatSession(case.model, case.picture)
    for question in (QUESTION, "And then?"):
        fresh = ChatSession(case.model, case.video, messages=list(one.messages)).ask(question, SHORT)
        answer, _ = one.ask(question, SHORT), two.ask(question, SHORT)
        assert answer.text == fresh.text
    recurrent = case.family == "qwen3_5"  # noise seldom becomes the same tokens again, and its state cannot go back
    assert recurrent or answer.receipt.cached_tokens > answer.receipt.visual_tokens > 0


def test_text_alone_pictures_and_several_videos(case: Case):
    model = case.model
    shown, still = (ChatSession(model, video).segments for video in (case.video, case.picture))
    asked = [Message("user", QUESTION)]
    for videos in ([], [(0, still), (0, still)]):
        prompt = model.processor(asked, videos=videos)
        assert ours(model, prompt) == of_prompt(model, prompt)
    for videos in ([(0, shown), (0, still)], [(0, shown), (0, shown[:1])]):
        if FAMILIES[case.family].most_videos == 1:
            with pytest.raises(ConfigError, match="reads 1 video in a conversation"):
                model.processor(asked, videos=videos)
            continue
        prompt = model.processor(asked, videos=videos)
        assert ours(model, prompt) == of_prompt(model, prompt)


def test_special_tokens_that_a_user_types_stay_text(case: Case):
    typed = "".join(case.model.processor.tokenizer.all_special_tokens)
    segments = ChatSession(case.model, case.video).segments
    plain = case.model.processor([Message("user", QUESTION)], segments)
    prompt = case.model.processor([Message("user", QUESTION + typed)], segments)
    assert len(prompt) - len(plain) == len(typed)  # the tokenizer of bytes has one token a character
    assert ours(case.model, prompt) == of_prompt(case.model, prompt)


def test_labels_are_the_answer_and_the_likelihood_is_that_of_the_model(case: Case):
    model = case.model
    segments = ChatSession(model, case.video).segments
    prompt = model.processor([Message("user", QUESTION), Message("assistant", "A cat.")], segments)
    learned = [label for label in prompt.labels if label >= 0]
    assert model.processor.tokenizer.decode(learned).lstrip() == f"A cat.{model.processor.end_of_turn}"
    arguments = model.llm._arguments(prompt)  # type: ignore[union-attr]
    seen = torch.ones_like(arguments["input_ids"])  # without it, Qwen3-Omni computes positions in one direction only
    with torch.inference_mode():
        logits = model.llm.language_model(**arguments, attention_mask=seen).logits[0].float()
        places = torch.tensor([i for i, label in enumerate(prompt.labels) if label >= 0])
        expected = torch.nn.functional.cross_entropy(logits[places - 1], torch.tensor(learned))
        loss = model.llm(**model.processor.arguments(prompt, model.device)).loss
    assert torch.allclose(loss, expected, atol=1e-5)
