"""Questions in English about the sounds of a clip, with their answers."""

import numpy as np

from data_gen.world.clip import WorldClip
from data_gen.world.language import LANGUAGES
from data_gen.world.meaning import in_order
from data_gen.world.sounds import KINDS, Sound

NOTHING = "Nothing"
ENGLISH = LANGUAGES[0]
# The kinds of questions about sounds. "while" needs the frames too.
SOUND_QUESTIONS = ("exists", "count", "first", "last", "while")


def ask_sounds(clip: WorldClip, sounds: tuple[Sound, ...], rng: np.random.Generator) -> list[tuple[str, str, str]]:
    """Returns one question of each kind that fits, as its kind, its words and its answer."""
    heard = [sound.kind for sound in sounds]
    silent = [kind for kind in KINDS if kind not in heard]
    asked = [heard, silent][int(rng.random() < 0.5)] or heard or silent  # yes and no alike
    kind = asked[int(rng.integers(len(asked)))]
    made = [
        ("exists", f"Is there {_named(kind)}?", "Yes" if kind in heard else "No"),
        ("count", "How many sounds are there?", str(len(heard))),
        ("first", "Which sound comes first?", _answer(heard[:1])),
        ("last", "Which sound comes last?", _answer(heard[-1:])),
    ]
    if sounds:
        sound = sounds[int(rng.integers(len(sounds)))]
        verb = "are" if sound.kind == "clicks" else "is"
        happens = ENGLISH.short(in_order(clip, [sound.event]))
        made.append(("while", f"What happens while {_named(sound.kind)} {verb} heard?", happens))
    return made


def _named(kind: str) -> str:
    return kind if kind in ("clicks", "noise") else f"a {kind}"


def _answer(kinds: list[str]) -> str:
    return kinds[0].capitalize() if kinds else NOTHING
