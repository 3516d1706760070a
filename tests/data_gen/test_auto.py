"""What models find in videos without an annotation, the samples made of it, and the review of what is doubtful."""

import asyncio
import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_gen.generators.auto import AutoGenerator
from data_gen.generators.observer import Observer
from data_gen.generators.semi import read_proposals
from data_gen.generators.statement import Statement
from data_gen.make_instructions import main
from videollm.datasets.clip import Clip, ClipQuestion
from videollm.datasets.schema import check, read
from videollm.features.encode import EncodedVideo, encode_video
from videollm.senses.finding import Finding, Findings, Kind
from videollm.video import probe

SAMPLES = Path(__file__).parents[2] / "scripts/samples"
SAMPLE = SAMPLES / "sample.mp4"


@pytest.fixture(scope="module")
def observer() -> Observer:
    return Observer("debug")  # of random weights: its captions name nothing that is found


@pytest.fixture(scope="module")
def video(observer: Observer) -> EncodedVideo:
    return encode_video(SAMPLE, observer.encoder, observer.config.sampling)


def found(kind: Kind, text: str, score: float, start_s: float = 0.0, end_s: float = 4.0) -> Finding:
    return Finding(start_s=start_s, end_s=end_s, kind=kind, text=text, score=score, box=(0.1, 0.1, 0.9, 0.9))


def told(observer: Observer, video: EncodedVideo, *findings: Finding) -> list[Statement]:
    senses = ("objects", "speech", "text")
    return observer.statements(replace(video, findings=Findings(senses=senses, found=findings)), "a.mp4")


def answers(statements: list[Statement]) -> dict[str, tuple[str, float, str]]:
    """The answer, the score and the doubt of each question."""
    questions = [(s, s.claim) for s in statements if isinstance(s.claim, ClipQuestion)]
    return {claim.question: (claim.answer, s.score, s.doubt) for s, claim in questions}


def test_objects_are_counted_and_what_is_less_sure_is_doubtful(observer: Observer, video: EncodedVideo):
    people = [found("object", "person", 0.9), found("object", "person", 0.7, 2.0, 13.0)]
    made = answers(told(observer, video, *people, found("object", "dog", 0.6)))
    assert made["Are there any people in the video?"] == ("Yes.", 0.9, "")
    assert made["When can people be seen?"] == ("From 0:00 to 0:12.", 0.9, "")  # the video ends at 12 s
    assert made["How many people are seen at once, at most?"] == ("2.", 0.7, "")
    assert made["Are there any dogs in the video?"][2] == "60% is below 65%"
    assert "When can dogs be seen?" not in made
    made = answers(told(observer, video, *people, found("object", "person", 0.4)))
    assert made["How many people are seen at once, at most?"] == ("2.", 0.7, "2 without those that are less sure")


def test_captions_that_change_without_a_cut_are_doubtful(video: EncodedVideo):
    observer = Observer("debug")
    observer.captioner = None  # captions list what is found
    seen = [found("object", "cat", 0.9), found("object", "dog", 0.8, 4.0, 8.0), found("object", "dog", 0.7, 4.0, 8.0)]
    assert len(video.cuts) == 2
    for cuts, doubts in ((video.cuts, {""}), ((), {"another caption stands beside it without a cut"})):
        statements = told(observer, replace(video, cuts=cuts), *seen)
        captions = {s.text: (s.spans, s.score, s.doubt) for s in statements if s.claim.kind == "event"}
        assert captions["1 cat can be seen."][:2] == (((0.0, 4.0),), 0.9)
        assert captions["2 dogs can be seen."][:2] == (((4.0, 8.0),), 0.7)
        assert {captions["1 cat can be seen."][2], captions["2 dogs can be seen."][2]} == doubts
    more = [found("object", "dog", 0.9, 0.0, 8.0), found("object", "dog", 0.8, 4.0, 8.0)]
    statements = told(observer, replace(video, cuts=()), *more)
    captions = {s.text: s.doubt for s in statements if s.claim.kind == "event"}
    assert captions["1 dog can be seen."] == captions["2 dogs can be seen."] == ""


def test_lines_are_told_once_and_those_that_are_read_differently_are_doubtful(observer: Observer, video: EncodedVideo):
    exit = [found("text", "EXIT", 0.995), found("text", "Exit", 0.99, 8.0, 10.0)]
    made = answers(told(observer, video, *exit))
    assert made == {
        'When can the text "EXIT" be read?': ("From 0:00.0 to 0:04.0, from 0:08.0 to 0:10.0.", 0.995, ""),
        "What is written here?": ('"EXIT".', 0.995, ""),
    } | {question: made[question] for question in made if question.startswith("Are there any")}
    made = answers(told(observer, video, *exit, found("text", "EX1T", 0.995), found("text", "II", 0.999)))
    assert made['When can the text "EXIT" be read?'][2] == "it is read as ex1t, exit"
    assert made['When can the text "II" be read?'][2] == "it is short"
    assert "What is written here?" not in made


def test_subtitles_in_the_picture_are_speech_and_not_text(observer: Observer, video: EncodedVideo):
    said = found("speech", "We leave at noon.", 0.9)
    statements = told(observer, video, said, found("text", "WE LEAVE AT NOON", 0.999))
    assert not any("text" in question for question in answers(statements))
    (speech,) = [s for s in statements if s.claim.kind == "speech"]
    assert (speech.text, speech.score, speech.model.split()[0]) == ("We leave at noon.", 0.9, "whisper-base")
    (unsure,) = [s for s in told(observer, video, replace(said, score=0.5)) if s.claim.kind == "speech"]
    assert unsure.doubt == "50% is below 60%"


def test_a_video_that_cannot_be_read_is_a_problem_and_no_answer(tmp_path: Path):
    (tmp_path / "cut.mp4").write_bytes(SAMPLE.read_bytes()[:3000])
    generator = AutoGenerator(tmp_path / "review.csv", captioner="debug")
    made = asyncio.run(generator.make(Clip(id="cut.mp4", video=tmp_path / "cut.mp4", source="videos"), ""))
    assert made.problem and not made.drafts and not made.doubts


@pytest.mark.slow
def test_samples_come_from_videos_and_a_person_decides_what_is_doubtful(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "sample.mp4").symlink_to(SAMPLE)
    (videos / "cut.mp4").write_bytes(SAMPLE.read_bytes()[:3000])
    out, review = tmp_path / "out.jsonl", tmp_path / "review.csv"
    command = [str(videos), "--out", str(out), "--generator", "auto", "--review", str(review)]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "clip cut.mp4" in said.err and f"{review}: 1 rows" in said.out
    assert check(out, lambda path: probe(path).duration_s).problems == ()
    samples = list(read(out))
    made = {sample.messages[0].content: sample for sample in samples}
    cat = made["When can cats be seen?"]
    assert cat.messages[1].content == "From 0:00.0 to 0:04.0." and cat.answer_times == ((0.0, 4.0),)
    assert cat.provenance.model and cat.provenance.model.startswith("ssd-mobilenet-v2 ")
    assert all(s.provenance.score and s.provenance.threshold is not None for s in samples)
    assert all((s.provenance.score or 0) >= (s.provenance.threshold or 0) for s in samples)
    assert {s.task for s in samples} >= {"caption/part", "caption/dense", "locate/event", "qa/exists", "qa/count"}
    (doubt,) = read_proposals(review)  # a speck of a picture that is read as a letter
    assert doubt.caption == 'The text "O" can be read.' and (tmp_path / doubt.key_frame).is_file()

    rows = [row | {"decision": "edit", "text": "A cat has green eyes."} for row in csv.DictReader(review.open())]
    with review.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert main(command) == 0 and "row" not in capsys.readouterr().out.splitlines()[-1].partition(str(review))[2]
    reviewed = [sample for sample in read(out) if sample.provenance.reviewed]
    assert {s.messages[1].content for s in reviewed if s.task == "caption/part"} == {"A cat has green eyes."}
    assert [sample.id for sample in read(out)][: len(samples)] == [sample.id for sample in samples]
    assert [json.loads(line)["item"] for line in out.with_name("out.jsonl.journal.jsonl").open()] == [
        "videos-sample.mp4-auto",
        "videos-sample.mp4-auto-reviewed",
    ]
