"""Sounds of the rendered world: drawn without regard to what is seen, and asked about truly."""

import numpy as np
import pytest

from data_gen.world.sound_questions import SOUND_QUESTIONS
from data_gen.world.sounds import HEARD, KINDS, RATE, samples
from train.data.rendered import RenderedClip, RenderedClips

CLIPS = RenderedClips(60, 4, sound=True)


@pytest.fixture(scope="module")
def clips() -> list[RenderedClip]:
    return [CLIPS[i] for i in range(len(CLIPS))]


def test_the_same_clip_sounds_the_same(clips: list[RenderedClip]):
    again = RenderedClips(60, 4, sound=True)[7]
    assert again.sounds == clips[7].sounds and (again.samples() == clips[7].samples()).all()
    assert RenderedClips(60, 4)[7].sounds == () and RenderedClips(60, 4)[7].turns(3) == clips[7].turns(3)


def test_a_share_of_events_is_heard_in_any_kind_of_sound(clips: list[RenderedClip]):
    kinds = [sound.kind for clip in clips for sound in clip.sounds]
    events = sum(len(clip.clip.events) for clip in clips)
    assert len(kinds) / events == pytest.approx(HEARD, abs=0.15)
    assert min(kinds.count(kind) for kind in KINDS) > 0.08 * len(kinds)
    assert all(len({s.kind for s in clip.sounds}) == len(clip.sounds) for clip in clips)


def test_an_event_is_heard_while_it_lasts(clips: list[RenderedClip]):
    for clip in clips:
        wave = clip.samples().numpy()
        assert len(wave) == round(clip.clip.duration_s * RATE) and np.abs(wave).max() <= 1
        heard = np.zeros(len(wave), dtype=bool)
        for sound in clip.sounds:
            start, end = (round(clip.clip.time_s(f) * RATE) for f in (sound.event.start, sound.event.end))
            heard[start:end] = True
            assert np.abs(wave[start:end]).max() > 0.05
        assert not (~heard).any() or np.abs(wave[~heard]).max() < 0.02


def test_a_tone_has_its_pitch():
    (clip,) = [c for c in map(CLIPS.__getitem__, range(60)) if [s.kind for s in c.sounds] == ["high tone"]][:1]
    sound = clip.sounds[0]
    wave = samples(clip.clip, clip.sounds, np.random.default_rng(0))
    start, end = (round(clip.clip.time_s(f) * RATE) for f in (sound.event.start, sound.event.end))
    spectrum = np.abs(np.fft.rfft(wave[start:end]))
    assert 1200 < spectrum.argmax() * RATE / (end - start) < 1800


def test_questions_have_the_true_answers(clips: list[RenderedClip]):
    yes = []
    for clip in clips:
        heard = [sound.kind for sound in clip.sounds]
        asked = {kind: (question, answer) for kind, question, answer in clip.sound_turns()}
        assert set(asked) == set(SOUND_QUESTIONS) - ({"while"} if not heard else set())
        assert asked["count"][1] == str(len(heard))
        assert asked["first"][1].lower() == (heard[0] if heard else "nothing")
        assert asked["last"][1].lower() == (heard[-1] if heard else "nothing")
        named = next(kind for kind in KINDS if kind in asked["exists"][0])
        assert (asked["exists"][1] == "Yes") == (named in heard)
        yes.append(named in heard)
    assert 0.3 < np.mean(yes) < 0.7
