"""Findings as words of the prompt."""

from dataclasses import replace

from videollm.models.notes import CHARACTERS, counted, segment_note, video_note
from videollm.senses.finding import NOTHING, Finding, Findings


def one(name: str, score: float, track: int) -> Finding:
    return Finding(start_s=0, end_s=4, kind="object", text=name, score=score, track=track)


def said(text: str) -> Finding:
    return Finding(start_s=1, end_s=2, kind="speech", text=text, score=0.9)


BOTH = ("objects", "speech")


def test_people_come_first_and_what_is_unsure_is_not_told():
    found = (one("dog", 0.9, 1), one("person", 0.55, 2), one("person", 0.7, 3), one("orange", 0.55, 4))
    assert segment_note(Findings(senses=BOTH, found=found)) == "2 people, 1 dog"
    assert segment_note(Findings(senses=BOTH, found=(one("cup", 0.9, 1), said("Tea?")))) == '1 cup; "Tea?"'


def test_the_head_tells_a_sense_that_found_nothing_from_one_that_was_off():
    assert video_note([NOTHING]) == ""
    assert video_note([Findings(senses=BOTH)]) == "seen: no people, no objects; heard: no speech"
    assert video_note([Findings(senses=BOTH, sound=False)]).endswith("heard: no sound track")
    assert video_note([Findings(senses=("speech",), found=(said("Hi."),))]) == "heard: speech"


def test_writing_sounds_and_faces_are_told_too():
    found = (
        Finding(start_s=0, end_s=4, kind="text", text="EXIT", score=0.9),
        Finding(start_s=0, end_s=4, kind="sound", text="Music", score=0.9),
        Finding(start_s=0, end_s=4, kind="face", text="face", score=0.9, track=1),
    )
    all_of_them = Findings(senses=("text", "sounds", "faces"), found=found)
    assert segment_note(all_of_them) == 'written: "EXIT"; sounds: Music'
    assert video_note([all_of_them]) == "sounds: Music; written: text; faces: 1"
    assert video_note([replace(all_of_them, found=())]) == "sounds: none that is known; written: no text; faces: none"


def test_the_head_counts_an_object_of_two_segments_once():
    part = Findings(senses=("objects",), found=(one("person", 0.9, 1),))
    assert video_note([part, part]) == "seen: 1 person"


def test_a_long_speech_is_cut_at_a_word():
    note = segment_note(Findings(senses=BOTH, found=(said("word " * 100),)))
    assert len(note) <= CHARACTERS + 6 and note.endswith('word ..."')


def test_plurals():
    assert [counted(name, 2) for name in ("bus", "person", "sheep", "wine glass")] == [
        "2 buses",
        "2 people",
        "2 sheep",
        "2 wine glasses",
    ]
