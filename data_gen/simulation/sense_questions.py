"""Questions about what the senses found in a simulated story.

The answers are those of `videollm.chat.grounded`, which needs no language model; the model learns to read the notes in
the prompt and to answer as it does, also where a question has a form that its parser does not know.
"""

import random
from collections.abc import Callable, Sequence

from data_gen.simulation.story import Story
from videollm.chat.answer import NOT_LOOKED
from videollm.chat.grounded import amount, heard, written
from videollm.chat.questions import Question
from videollm.datasets.schema import format_time
from videollm.models.notes import object_counts, plural
from videollm.senses.detector import NAMES
from videollm.senses.finding import Findings

Asked = tuple[str, str] | None
"""A question with its answer; None where the story has nothing to ask about."""


def people(story: Story, rng: random.Random) -> Asked:
    return rng.choice(PEOPLE), _count(story.findings, "person")


def who(story: Story, rng: random.Random) -> Asked:
    return rng.choice(WHO), _count(story.findings, "person", who=True)


def things(story: Story, rng: random.Random) -> Asked:
    """Asks for the number of things that the detector knows, which are mostly some that were found."""
    found = [name for name in object_counts(story.findings) if name != "person"]
    name = rng.choice(found if found and rng.random() < 0.8 else NAMES[1:])
    return rng.choice(THINGS).format(x=plural(name)), _count(story.findings, name)


def said(story: Story, rng: random.Random) -> Asked:
    return rng.choice(SAID), heard(Question("speech"), story.findings, ()).text


def said_at(story: Story, rng: random.Random) -> Asked:
    segment = rng.choice(story.segments)
    if int(segment.end_s) <= int(segment.start_s) + 1:
        return None
    time_s = rng.randrange(int(segment.start_s) + 1, int(segment.end_s))
    question = rng.choice(SAID_AT).format(t=format_time(time_s))
    return question, heard(Question("speech"), story.findings.part(time_s, time_s + 1), ()).text


def speaks(story: Story, rng: random.Random) -> Asked:
    question = rng.choice(SPEAKS)
    return question, heard(Question("speech", thing=question.lower()), story.findings, ()).text


def sounds(story: Story, rng: random.Random) -> Asked:
    """Where no other sounds are known, that only speech is recognised."""
    return rng.choice(SOUNDS), heard(Question("sound"), story.findings, ()).text


def reads(story: Story, rng: random.Random) -> Asked:
    return rng.choice(WRITTEN), written(story.findings, ()).text


def _count(findings: Findings, name: str, who: bool = False) -> str:
    if "objects" not in findings.senses:
        return NOT_LOOKED
    return amount(findings, name, object_counts(findings).get(name, 0), who=who)


SENSE_KINDS: dict[str, Callable[[Story, random.Random], Asked]] = {
    "people": people,
    "who": who,
    "things": things,
    "said": said,
    "said_at": said_at,
    "speaks": speaks,
    "sounds": sounds,
    "written": reads,
}

PEOPLE: Sequence[str] = (
    "How many people are there?",
    "How many people can be seen?",
    "How many people are in the video?",
    "Count the people.",
    "What is the number of people in this clip?",
    "Tell me how many people you see.",
    "People count, please.",
)
WHO = (
    "Who is in the video?",
    "Who can be seen?",
    "Who appears in this clip?",
    "Who is there?",
    "Tell me who is shown.",
    "Which people are in the video?",
)
THINGS = (
    "How many {x} are there?",
    "How many {x} can you see?",
    "How many {x} are in the video?",
    "Count the {x}.",
    "What is the number of {x}?",
    "Tell me the number of {x} in this clip.",
)
SAID = (
    "What is said?",
    "What is the person saying?",
    "What does the speaker say?",
    "What is said in the video?",
    "What do they talk about?",
    "What did they talk about?",
    "What is being talked about?",
    "Write down the words that are spoken.",
    "Give me the transcript.",
    "Quote the speaker.",
    "What can be heard in the way of speech?",
    "Repeat what is said in this clip.",
)
SAID_AT = (
    "What is said at {t}?",
    "What does the speaker say at {t}?",
    "Which words are spoken at {t}?",
    "Quote what is said at {t}.",
)
SPEAKS = (
    "Does anyone speak?",
    "Is anybody talking?",
    "Is there speech?",
    "Does somebody say something?",
    "Can a voice be heard?",
)
SOUNDS = (
    "What sounds are there?",
    "Which sounds are heard?",
    "What noises are there?",
    "What music is playing?",
    "Describe the sounds.",
    "Name the sounds of this clip.",
)
WRITTEN = (
    "What is written?",
    "What is written on the sign?",
    "What does the text say?",
    "What does the sign say?",
    "Read the text.",
    "Which words are written in the video?",
    "Is there a caption, and what does it say?",
)
