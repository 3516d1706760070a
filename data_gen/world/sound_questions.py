"""Questions in English about the sounds of a clip, with their answers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_gen.world.clip import WorldClip
from data_gen.world.language import LANGUAGES
from data_gen.world.meaning import in_order
from data_gen.world.sounds import KINDS, SAID, Sound

NOTHING = "Nothing"
ENGLISH = LANGUAGES[0]
OMNI_QUESTION = "What is seen and heard?"
# The kinds of questions about sounds. "while" and "caption" need the frames too.
SOUND_QUESTIONS = ("exists", "count", "first", "last", "while", "caption")


@dataclass(frozen=True, slots=True)
class SoundQuestion:
    """A question in English. kind: one of `SOUND_QUESTIONS`. heard: the sounds that the answer follows from."""

    kind: str
    question: str
    answer: str
    heard: tuple[Sound, ...]


def ask_sounds(
    clip: WorldClip, sounds: tuple[Sound, ...], rng: np.random.Generator, kinds: Sequence[str] = KINDS
) -> list[SoundQuestion]:
    """Returns one question of each kind that fits. kinds: those that sounds were drawn from."""
    heard = [sound.kind for sound in sounds]
    silent = [kind for kind in kinds if kind not in heard]
    asked = [heard, silent][int(rng.random() < 0.5)] or heard or silent  # yes and no alike
    kind = asked[int(rng.integers(len(asked)))]
    made = [
        SoundQuestion(
            "exists",
            f"Is there {_named(kind)}?",
            "Yes" if kind in heard else "No",
            tuple(sound for sound in sounds if sound.kind == kind),
        ),
        SoundQuestion("count", "How many sounds are there?", str(len(heard)), sounds),
        SoundQuestion("first", "Which sound comes first?", _answer(heard[:1]), sounds[:1]),
        SoundQuestion("last", "Which sound comes last?", _answer(heard[-1:]), sounds[-1:]),
    ]
    if sounds:
        sound = sounds[int(rng.integers(len(sounds)))]
        happens = ENGLISH.short(in_order(clip, [sound.event]))
        words = f"What happens while {_named(sound.kind)} {_verb(sound.kind)} heard?"
        made.append(SoundQuestion("while", words, happens, (sound,)))
    return [*made, SoundQuestion("caption", OMNI_QUESTION, omni_caption(clip, sounds), sounds)]


def omni_caption(clip: WorldClip, sounds: tuple[Sound, ...]) -> str:
    """Returns the short caption of what is seen, and a sentence of what is heard, in order of time."""
    return f"{ENGLISH.short(in_order(clip, clip.events))} {heard_sentence(sounds)}"


def heard_sentence(sounds: tuple[Sound, ...]) -> str:
    """Returns such as "A siren is heard, then clicks are heard." """
    clauses = [f"{_named(sound.kind)} {_verb(sound.kind)} heard" for sound in sounds]
    return ENGLISH.sentence(ENGLISH.narrate(clauses or ["nothing is heard"]))


def _named(kind: str) -> str:
    if kind in ("clicks", "noise"):
        return kind
    return f"the {kind}" if kind.startswith(SAID) else f"a {kind}"


def _verb(kind: str) -> str:
    return "are" if kind == "clicks" else "is"


def _answer(kinds: list[str]) -> str:
    named = [f"the {kind}" if kind.startswith(SAID) else kind for kind in kinds]
    return named[0].capitalize() if named else NOTHING
