"""Which of several videos a question is about, and what each of them is asked."""

from pathlib import Path

import pytest

from videollm.chat.prompt_video import PromptVideo
from videollm.chat.several import divide
from videollm.checkpoint import Model, load
from videollm.config import SamplingConfig
from videollm.features.encode import EncodedVideo, encode_video
from videollm.models.processor import Message

SAMPLE = Path(__file__).parents[2] / "scripts/samples/sample.mp4"


@pytest.fixture(scope="module")
def model() -> Model:
    return load("debug")


@pytest.fixture(scope="module")
def video(model: Model) -> EncodedVideo:
    return encode_video(SAMPLE, model.encoder, SamplingConfig(frames=2))


@pytest.mark.parametrize(
    ("question", "numbers", "asked"),
    [
        ("Which of the two shows a cat?", [0, 1], "Is there a cat?"),
        ("Which video has any boats?", [0, 1], "Is there any boats?"),
        ("What is in these two videos?", [0, 1], "What is in this video?"),
        ("Describe both videos.", [0, 1], "Describe this video."),
        ("Compare the two clips.", [0, 1], "What is in this video?"),
        ("What is in the second video?", [1], "What is in the video?"),
        ("And in the first one?", [0], "And in the video?"),
        ("Is there a cat?", [0, 1], "Is there a cat?"),
    ],
)
def test_questions_about_two_videos_of_one_message(
    model: Model, video: EncodedVideo, question: str, numbers: list[int], asked: str
):
    shares = divide([Message("user", question)], [PromptVideo(model, video), PromptVideo(model, video)])
    assert [share.number for share in shares] == numbers
    assert all(share.messages == [Message("user", asked)] for share in shares)
    assert [share.name for share in shares] == (["First video: ", "Second video: "] if len(numbers) > 1 else [""])


def test_a_new_video_is_asked_about_and_stays_so(model: Model, video: EncodedVideo):
    talk = [Message("system", "Be brief."), Message("user", "What is it?"), Message("assistant", "A cat.")]
    videos = [PromptVideo(model, video, before=1), PromptVideo(model, video, before=3)]
    for later in ([], [Message("assistant", "A boat."), Message("user", "And then?")]):
        messages = [*talk, Message("user", "And this?"), *later]
        (share,) = divide(messages, videos)
        assert share.number == 1 and share.name == "" and share.videos[0].before == 1
        assert share.messages == [talk[0], *messages[3:]]
    (share,) = divide([*talk, Message("user", "What is in the first video?")], videos)
    assert share.number == 0 and [message.role for message in share.messages] == ["system", "user", "assistant", "user"]
