"""Sentences that somebody might say and signs that somebody might read, with words, names and numbers drawn at random.

The draws are wide, so that a language model learns to copy what the prompt quotes and not to guess it.
"""

import random

from videollm.encoders.base import Vocabulary
from videollm.models.nouns import noun

NAMES = ("Anna", "Ben", "Carla", "David", "Emma", "Frank", "Grace", "Hassan", "Ines", "John", "Kenji", "Laura", "Maria",
         "Nils", "Olga", "Peter", "Quentin", "Rosa", "Sofia", "Tom", "Uma", "Victor", "Wen", "Yara", "Zoe")  # fmt: skip
PLACES = ("Berlin", "Boston", "Cairo", "Delhi", "the garden", "the harbour", "the kitchen", "the market", "Lima",
          "Lisbon", "the mountains", "my office", "Oslo", "our school", "Paris", "Seoul", "the station", "Tokyo",
          "the village", "the workshop")  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SENTENCES = (
    "Today we look at {a}.",
    "Welcome back to {place}.",
    "My name is {name} and this is {a}.",
    "I bought {a} in {place} for {n} dollars.",
    "Have you ever seen {a} in {place}?",
    "We have to be there at {hour} on {day}.",
    "{name}, could you bring me {a}, please?",
    "It took us {n} days to build {a}.",
    "Do not touch {a} before {hour}.",
    "There were {n} of them, and {name} counted twice.",
    "First you take {a}, then you add {b}.",
    "He was not a young man when he came to {place}.",
    "She told {name} that the train leaves at {hour}.",
    "That is the best thing that I have seen since {day}.",
    "I think that {name} left {a} in {place}.",
    "You can see {a} behind {b}.",
    "The winner of the {n} metres is {name}.",
    "Please call {n} {m} if you find {a}.",
    "Nobody in {place} knew what {name} had done.",
    "Thank you for watching, and see you on {day}.",
    "This is how {name} learned to paint {a}.",
    "The weather in {place} will be {n} degrees on {day}.",
)
SIGNS = (
    "EXIT",
    "OPEN {hour}",
    "SALE {n}%",
    "NO ENTRY",
    "{NAME}'S {A}",
    "PLATFORM {n}",
    "WELCOME TO {PLACE}",
    "{A} SHOP",
    "{n} KM",
    "CALL {n} {m}",
    "{DAY} CLOSED",
    "{name} Street {n}",
    "Chapter {n}: {a}",
)


def sentence(rng: random.Random, vocabulary: Vocabulary) -> str:
    """One or two sentences."""
    lines = rng.sample(SENTENCES, rng.choice([1, 1, 2]))
    return " ".join(_fill(line, rng, vocabulary) for line in lines)


def sign(rng: random.Random, vocabulary: Vocabulary) -> str:
    return _fill(rng.choice(SIGNS), rng, vocabulary)


def _fill(template: str, rng: random.Random, vocabulary: Vocabulary) -> str:
    name, place, day = (rng.choice(words) for words in (NAMES, PLACES, DAYS))
    a, b = rng.sample(vocabulary.words, 2)
    values = {"name": name, "place": place, "day": day, "a": noun(a), "b": noun(b)}
    upper = {"NAME": name.upper(), "PLACE": place.upper(), "DAY": day.upper(), "A": a.upper()}
    hour = f"{rng.randrange(1, 13)}:{rng.randrange(0, 60):02}"
    return template.format(n=rng.randrange(2, 1000), m=rng.randrange(100, 1000), hour=hour, **values, **upper)
