"""What belongs to a part of a video, how many are seen at once, and the same findings after being kept."""

import json

from videollm.senses.finding import Finding, Findings


def seen(name: str, start_s: float, end_s: float, track: int = 1) -> Finding:
    return Finding(
        start_s=start_s, end_s=end_s, kind="object", text=name, score=0.9, box=(0.1, 0.2, 0.3, 0.4), track=track
    )


def said(text: str, start_s: float, end_s: float) -> Finding:
    return Finding(start_s=start_s, end_s=end_s, kind="speech", text=text, score=0.9)


FINDINGS = Findings(
    senses=("objects", "speech"), found=(seen("person", 0, 6), said("One.", 3, 5), seen("person", 5, 8, 2))
)


def test_an_object_is_in_every_part_that_it_is_seen_in_and_a_sentence_in_one():
    parts = [FINDINGS.part(0, 4), FINDINGS.part(4, 8, first=False)]
    assert [len(p.of("object")) for p in parts] == [1, 2]
    assert [len(p.of("speech")) for p in parts] == [1, 0]
    assert FINDINGS.part(4, 8).of("speech")  # the part is all that is looked at: the sentence is still being said
    assert all(p.senses == FINDINGS.senses for p in parts)


def test_two_are_at_once_only_while_both_are_seen():
    assert FINDINGS.at_once() == {"person": 2}
    assert Findings(found=(seen("dog", 0, 3), seen("dog", 3, 6, 2))).at_once() == {"dog": 1}
    assert Findings().at_once() == {}


def test_what_is_seen_in_a_picture_counts():
    """A picture lasts no time: what is seen in it begins and ends at 0."""
    picture = Findings(senses=("objects",), found=(seen("person", 0, 0), seen("person", 0, 0, 2), seen("bus", 0, 0, 3)))
    assert picture.at_once() == {"person": 2, "bus": 1}
    assert picture.part(0, 0) == picture.part(0, 4) == picture
    assert not picture.part(4, 8).found


def test_kept_findings_come_back_equal():
    assert Findings.from_dict(json.loads(json.dumps(FINDINGS.to_dict()))) == FINDINGS
