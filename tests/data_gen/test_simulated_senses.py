"""Simulated findings of senses and the questions about them: repeatable, beside the same scenes, answered as the chat
answers."""

import random
from dataclasses import replace

import pytest

from data_gen.simulation.questions import KINDS, Questioner, Taxonomy
from data_gen.simulation.sense_questions import SENSE_KINDS
from data_gen.simulation.senses import NO_SENSES, Senses, find
from data_gen.simulation.story import Scene, Simulator, Story
from data_gen.simulation.words import sentence, sign
from train.data.simulated import StoryConversationCollator, simulated
from videollm import checkpoint
from videollm.chat.answer import CANNOT_TELL, NOBODY, NOT_LOOKED
from videollm.chat.grounded import NO_SOUND, NOT_HEARD, NOT_READ, NOTHING_WRITTEN, ONLY_SPEECH, SILENT
from videollm.encoders.base import Vocabulary
from videollm.models.notes import object_counts, video_note
from videollm.presets import DEBUG
from videollm.senses.finding import NOTHING, Finding, Findings

VOCABULARY = Vocabulary(("beagle", "tabby", "mug", "dog", "animal"), (3, 4, -1, 4, -1))
SCENES = [(0.0, 4.0), (4.0, 8.0)]
ALL = Senses(used=1.0, objects=1.0, speech=1.0, text=1.0, sounds=1.0, sound_track=1.0, found=1.0)


def drawn(seed: int, senses: Senses = ALL) -> Findings:
    return find(SCENES, [["beagle"], []], SCENES, VOCABULARY, seed, senses)


def thing(name: str, start_s: float = 0.0, end_s: float = 4.0, track: int = 0) -> Finding:
    return Finding(start_s=start_s, end_s=end_s, kind="object", text=name, score=0.9, track=track)


def story(*found: Finding, senses: tuple[str, ...] = ("objects", "speech"), sound: bool = True) -> Story:
    return Story((Scene(0.0, 4.0, ()), Scene(4.0, 8.0, ())), (), (), Findings(senses=senses, found=found, sound=sound))


def answer(kind: str, of: Story, seed: int = 0) -> str:
    asked = SENSE_KINDS[kind](of, random.Random(seed))
    assert asked is not None
    return asked[1]


SAID = Finding(start_s=4.0, end_s=8.0, kind="speech", text="Good morning.", score=0.9)
READ = Finding(start_s=0.0, end_s=4.0, kind="text", text="EXIT", score=0.9)
MUSIC = Finding(start_s=0.0, end_s=4.0, kind="sound", text="Music", score=0.9)


@pytest.mark.parametrize(
    ("kind", "of", "expected"),
    [
        ("people", story(thing("person"), thing("person", track=1)), "2 people."),
        ("people", story(thing("person"), thing("person", 4.0, 8.0, 1)), "1 person at once, at most."),
        ("people", story(), NOBODY),
        ("people", story(senses=("speech",)), NOT_LOOKED),
        ("who", story(thing("person")), "1 person; I cannot tell who."),
        ("said", story(SAID), 'At 0:04 someone says: "Good morning."'),
        ("said", story(), SILENT),
        ("said", story(sound=False), NO_SOUND),
        ("said", story(senses=("objects",)), NOT_HEARD),
        ("speaks", story(SAID), "Yes, from 0:04 on."),
        ("sounds", story(SAID), ONLY_SPEECH),
        ("sounds", story(MUSIC, senses=("sounds",)), "Sounds: music (0:00 to 0:04)."),
        ("written", story(READ, senses=("text",)), 'At 0:00 it reads: "EXIT"'),
        ("written", story(senses=("text",)), NOTHING_WRITTEN),
        ("written", story(), NOT_READ),
    ],
)
def test_answers_are_those_of_the_chat(kind: str, of: Story, expected: str):
    assert answer(kind, of) == expected


def test_things_are_counted_and_others_are_not_denied():
    of = story(thing("dog"), thing("dog", track=1))
    answers = {answer("things", of, seed) for seed in range(30)}
    assert answers == {"2 dogs.", CANNOT_TELL}


def test_findings_are_repeatable_and_bounded_by_the_scenes():
    assert drawn(3) == drawn(3) != drawn(4)
    for seed in range(50):
        assert all((f.start_s, f.end_s) in SCENES for f in drawn(seed).found)
    assert drawn(3, NO_SENSES) == NOTHING


def test_a_detector_may_name_what_the_scene_shows():
    counts = [object_counts(drawn(seed)) for seed in range(200)]
    assert 50 < sum("dog" in c for c in counts) < 150, "half of the beagles are detected as dogs"
    assert any("person" in c for c in counts) and any(c.keys() - {"person", "dog"} for c in counts)


def test_a_video_without_sound_has_none_that_is_heard():
    for seed in range(50):
        silent = drawn(seed, replace(ALL, sound_track=0.0))
        assert not silent.sound and not silent.of("speech") and not silent.of("sound")
        assert "no sound track" in video_note([silent])


def test_lines_are_drawn_widely():
    rng = random.Random(0)
    for line in (sentence, sign):
        assert len({line(rng, VOCABULARY) for _ in range(200)}) > 100


@pytest.fixture(scope="module")
def simulators() -> tuple[Simulator, Simulator, Taxonomy]:
    model = checkpoint.build(DEBUG)
    (heard, taxonomy), (plain, _) = (simulated(model, [0, 1, 2], senses) for senses in (Senses(used=1.0), NO_SENSES))
    return heard, plain, taxonomy


def test_a_story_has_the_same_scenes_with_and_without_findings(simulators: tuple[Simulator, Simulator, Taxonomy]):
    heard, plain, _ = simulators
    for seed in range(10):
        one, other = heard.story(seed), plain.story(seed)
        assert one.scenes == other.scenes and one.findings.senses and not other.findings.senses
        parts = [f for s in one.segments for f in s.findings.found]
        assert set(parts) == set(one.findings.found), "each segment has its part"


def test_no_answer_contradicts_what_was_found(simulators: tuple[Simulator, Simulator, Taxonomy]):
    heard, _, taxonomy = simulators
    for seed in range(60):
        of = heard.story(seed)
        counts = object_counts(of.findings)
        for qa in Questioner(of, taxonomy, random.Random(seed)).ask(len(KINDS), tuple(KINDS)):
            if qa.kind == "absent":
                assert not any(qa.question.endswith(f"{name}?") for name in counts)
            if qa.kind in ("what", "describe"):
                assert all(name in qa.answer or str(count) in qa.answer for name, count in counts.items())


def test_notes_are_in_the_prompts_that_are_trained_on():
    model = checkpoint.build(DEBUG)
    simulator, taxonomy = simulated(model, [0, 1, 2], replace(ALL, people=1.0, said=1.0, written=1.0))
    prompt = StoryConversationCollator(model, taxonomy, 2000).prompt(simulator.story(1))
    text = model.processor.tokenizer.decode([i for i in prompt.ids if i >= 0])
    assert "; seen: " in text and "heard: speech" in text and "written: text" in text
