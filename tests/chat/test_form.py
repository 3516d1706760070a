"""Instructions about the form of an answer, carried out on finished texts, and languages that are declined."""

import pytest

from videollm.chat.form import DECLINED, ENGLISH_ONLY, UNREAD, Form, declined, read_form


@pytest.mark.parametrize(
    ("text", "question", "form"),
    [
        ("Answer in one word: what is this?", "what is this?", Form(one_word=True)),
        ("What is it? One word only.", "What is it?", Form(one_word=True)),
        ("Give a one-word answer. Is there a cat?", "Is there a cat?", Form(one_word=True)),
        ("How many are there? Give your answer as a single word.", "How many are there?", Form(one_word=True)),
        ("What is shown? Please reply in capital letters, please.", "What is shown?", Form(upper=True)),
        ("USE ALL CAPS. What is shown?", "What is shown?", Form(upper=True)),
        ("Describe it as a bulleted list.", "Describe it", Form(listed=True)),
        ("List what you see.", "List what you see.", Form(listed=True)),
        ("Describe the video in Spanish.", "Describe the video", Form(language=True)),
        ("Respond only in uppercase.", "", Form(upper=True)),
        ("What is it? Answer in one word. Answer in upper case.", "What is it?", Form(one_word=True, upper=True)),
    ],
)
def test_an_instruction_is_taken_out_of_the_question(text: str, question: str, form: Form):
    assert read_form(text) == (question, form)


@pytest.mark.parametrize(
    "text",
    [
        "Is there a sign in German?",
        "Is there one word on the sign?",
        "What is the capital of France?",
        "Is there a list in the video?",
        "What  is\nthis?",
    ],
)
def test_other_questions_stay_as_they_are(text: str):
    assert read_form(text) == (text, Form()) and Form().is_free


SEEN = 'A musical instrument, then a cat. 1 person and 2 dogs are seen. At 0:05 someone says: "Hi. You."'


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("A cat, then an espresso.", "Cat"),
        ("A musical instrument.", "Instrument"),
        ("Yes, 2 people.", "Yes"),
        ("No.", "No"),
        ("2 people at once, at most.", "2"),
        ("1 boat is seen.", "Boat"),
        ("1 person and 2 dogs are seen.", "Person"),
        ("An espresso and a cat are seen.", "Espresso"),
        ("Nobody was seen.", "Nobody"),
        ("I cannot tell from this video.", "Unknown."),
        ('At 0:05 someone says: "Hello there."', 'At 0:05 someone says: "Hello there."'),
    ],
)
def test_one_word(text: str, word: str):
    assert Form(one_word=True).applied(text) == word


def test_a_list_has_a_line_for_each_thing():
    lines = ["A musical instrument", "a cat", "1 person", "2 dogs", 'At 0:05 someone says: "Hi. You."']
    assert Form(listed=True).applied(SEEN) == "\n".join(f"- {line}" for line in lines)
    assert Form(listed=True).applied("Yes, 2 people.") == "Yes, 2 people."


def test_forms_add_up():
    form = Form(one_word=True).merged(Form(upper=True, language=True))
    assert form.applied("A cat.") == f"{ENGLISH_ONLY} Cat".upper() and not form.is_free


@pytest.mark.parametrize(
    ("question", "language"),
    [
        ("Was ist in diesem Video zu sehen?", "German"),
        ("Wie viele Personen sind zu sehen?", "German"),
        ("¿Qué se ve en este vídeo?", "Spanish"),
        ("¿Hay una persona?", "Spanish"),
        ("Que voit-on dans cette vidéo ?", "French"),
        ("Y a-t-il une personne ?", "French"),
        ("这个视频里有什么？", "Chinese"),
        ("Hola, ¿qué ves?", "Spanish"),
    ],
)
def test_a_question_in_another_language_is_declined_in_it(question: str, language: str):
    assert declined(question) == DECLINED[language]


def test_several_answers_are_not_cut_to_one_word():
    assert Form(one_word=True).applied("Cat: No. Dog: Yes. Person: Yes, 2 people.").startswith("Cat: No. Dog: Yes.")


def test_other_scripts_are_declined_and_english_is_not():
    assert declined("Что на видео?") == declined("ビデオには何がありますか") == UNREAD
    for question in ("Is there a café?", "What was in the video?", "Who sits in the den?", "?", "Where is 北京?"):
        assert declined(question) is None
