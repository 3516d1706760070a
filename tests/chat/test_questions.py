"""What questions of many wordings ask for, and those that are the language model's."""

import pytest

from videollm.chat.questions import Question, is_person, one_by_one, read_question, told_spans


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("How many people are there?", Question("count", "person")),
        ("how many dogs can you see in the video", Question("count", "dog")),
        ("How many people are there at 0:05?", Question("count", "person", 5.0)),
        ("Is there a dog between 0:04 and 0:08?", Question("exists", "dog", 4.0, end_s=8.0)),
        ("Count the wine glasses.", Question("count", "wine glass")),
        ("Is there a bridge?", Question("exists", "bridge")),
        ("Are there any trees in the video?", Question("exists", "trees")),
        ("Do you see a party hat in this clip?", Question("exists", "party hat")),
        ("Does the video show a man in a red coat?", Question("exists", "man in a red coat")),
        ("Does a lake appear?", Question("exists", "lake")),
        ("Is a sofa visible?", Question("exists", "sofa")),
        ("Is anybody there?", Question("exists", "anybody")),
        ("Can a person be seen?", Question("exists", "person")),
        ("Any people?", Question("exists", "person")),
        ("Is this a cat?", Question("exists", "cat")),
        ("Are these birds?", Question("exists", "bird")),
        ("Is there a cat or a dog?", Question("exists", "cat or a dog")),
        ("Who is in the video?", Question("who")),
        ("What animal is shown?", Question("which", "animal")),
        ("What kind of fruit can you see?", Question("which", "fruit")),
        ("What can you do?", Question("greeting")),
        ("ok", Question("greeting")),
        ("?", Question("greeting")),
        ("What happens in the video?", Question("describe")),
        ("What is in this video?", Question("describe")),
        ("What is shown?", Question("describe")),
        ("Describe the video.", Question("describe")),
        ("What do you notice?", Question("describe")),
        ("What objects lie around?", Question("describe")),
        ("Which objects?", Question("describe")),
        ("Which objects can you detect?", Question("describe")),
        ("TL;DR", Question("describe")),
        ("Give me three keywords.", Question("describe")),
        ("What's the plot?", Question("describe")),
        ("Explain the video.", Question("describe")),
        ("Can I see a dog anywhere?", Question("exists", "dog")),
        ("Give it a title.", Question("describe")),
        ("Write a tweet about it.", Question("describe")),
        ("Which animals?", Question("which", "animals")),
        ("What can you see?", Question("describe")),
        ("Can you describe the clip in one sentence?", Question("describe")),
        ("Could you please tell me what is in the clip?", Question("describe")),
        ("What is this?", Question("describe")),
        ("What is the main subject?", Question("describe")),
        ("What kind of thing is it?", Question("describe")),
        ("What is on screen?", Question("describe")),
        ("Which objects are there?", Question("describe")),
        ("What are we looking at?", Question("describe")),
        ("Can you count the dogs?", Question("count", "dog")),
        ("So how many dogs are there?", Question("count", "dog")),
        ("Isn't there a cat?", Question("exists", "cat")),
        ("There is a cat, right?", Question("exists", "cat")),
        ("The video shows a cat, doesn't it?", Question("exists", "cat")),
        ("Is there a cat in the whole video?", Question("exists", "cat")),
        ("Is there a cat on the sofa?", Question("exists", "cat on the sofa")),
        ("Are there no cats?", Question("exists", "no cats")),
        ("I think there is a cat. Am I right?", Question("exists", "cat")),
        ("Tell me if there is a cat.", Question("exists", "cat")),
        ("Can you tell me whether there are any cats?", Question("exists", "cat")),
        ("And the cat?", Question("exists", "cat")),
        ("What about a cat?", Question("exists", "cat")),
        ("Name the animal.", Question("which", "animal")),
        ("Are there more cups than cats?", Question("compare", "are there more cups than cats")),
        ("Is there more than one cat?", Question("exists", "more than one cat")),
    ],
)
def test_forms(text: str, asked: Question):
    assert read_question(text) == asked


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("What is the person saying?", "speech"),
        ("What can be heard?", "heard"),
        ("Can you hear anything?", "heard"),
        ("Is there any sound?", "heard"),
        ("Can you hear a dog?", "sound"),
        ("Is there the sound of a dog?", "sound"),
        ("What did they talk about?", "speech"),
        ("Does anyone speak?", "speaks"),
        ('When is "good morning" said?', "when"),
        ("What music is playing?", "sound"),
        ("What does the text say?", "written"),
        ("Read the sign.", "written"),
        ("Hello!", "greeting"),
        ("Is there music?", "sound"),
    ],
)
def test_sound(text: str, asks: str):
    found = read_question(text)
    assert found is not None and found.asks == asks


@pytest.mark.parametrize(
    "text",
    [
        "What appears first?",
        "What is in the first scene?",
        "What is shown at 0:05?",
        "Give a timeline of the video.",
        "Does the scene change?",
        "Does the cat appear before the dog?",
        "¿Qué hay en este vídeo?",
    ],
)
def test_the_rest_is_the_language_models(text: str):
    assert read_question(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "What is the man doing?",
        "What is she wearing in this clip?",
        "What does the man look like?",
        "What colour is the car?",
        "Which color does it have?",
        "Where is this?",
        "Why is he here?",
        "How old is she?",
        "Is the man happy?",
        "Is it raining?",
        "Does he wave at the camera?",
        "What is the weather like?",
        "When does he blow out the candles?",
        "How often does he wave?",
        "How many times does the cat appear?",
        "What is on the table?",
        "What is in the cup?",
        "What is 2+2?",
        "Who owns the cat?",
        "What is next to the laptop?",
        "What is missing?",
        "What else is there?",
        "What happens next?",
        "What is unusual about this video?",
        "What happens in the middle?",
        "Does the number of people change?",
    ],
)
def test_what_nothing_here_knows(text: str):
    assert read_question(text) == Question("unknown")


def test_several_things():
    assert one_by_one("cat or a dog") == ["cat", "dog"]
    assert one_by_one("cat, a dog and any birds") == ["cat", "dog", "birds"]
    assert one_by_one("cars or bikes") == ["cars", "bikes"]
    assert one_by_one("black and white cat") == ["black and white cat"]
    assert one_by_one("both a cat and a dog") == ["cat", "dog"]


def test_people_whatever_is_said_of_them():
    assert all(map(is_person, ("person", "people", "man", "man in a red coat")))
    assert not any(map(is_person, ("dog", "manual", "snowman")))


@pytest.mark.parametrize(
    ("answer", "spans"),
    [
        ("From 0:04 to 0:08.", [(4, 8)]),
        ("At 0:05, and again at 1:02:03.", [(5, 5), (3723, 3723)]),
        ("0:04-0:08: a cup", [(4, 8)]),
        ("A cat, then 2 cups.", []),
    ],
)
def test_times_of_an_answer(answer: str, spans: list[tuple[float, float]]):
    assert told_spans(answer) == spans
