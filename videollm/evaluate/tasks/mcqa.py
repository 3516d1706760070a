"""Multiple-choice questions."""

from collections.abc import Sequence
from string import ascii_uppercase

import numpy as np

from videollm.datasets.item import Item, Prediction
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.metrics.answers import chosen_option
from videollm.evaluate.subject import Subject
from videollm.evaluate.views import CONTROLS
from videollm.features.encode import EncodedVideo

LETTERS = ascii_uppercase


class MultipleChoice:
    name = "mcqa"
    about = (
        "Multiple-choice questions, answered by likelihood. The prompt lists the options with letters, and the choice "
        "is the letter that is the most probable first token of the answer; no text is generated or parsed. accuracy: "
        "the share of right choices. cloze: the accuracy if the prompt has no options and the choice is the option "
        "with the highest mean log probability per token, which suits models that were not trained on letters (Gu et "
        "al. 2024). A model that a server runs writes an answer, and the choice is the letter or the option in it; an "
        "answer without either is wrong, and there is no cloze. Chance: 1 divided by the number of options."
    )
    controls = CONTROLS

    def lacks(self, item: Item) -> str | None:
        right = 1 < len(item.choices) <= len(LETTERS) and item.references[:1] and item.references[0] in item.choices
        return None if item.question and right else "a question with options, one of them right"

    def predict(self, subject: Subject, item: Item, condition: str) -> Prediction:
        video = subject.see(item, condition)
        made = choose(subject, video, item)
        if not subject.has_likelihoods:
            return made
        by_text = subject.likelihoods(video, item.question, item.choices)
        return made | {"cloze": int(np.argmax(by_text)), "cloze_logprobs": by_text}

    def score(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> dict[str, Rows]:
        right = [item.choices.index(item.references[0]) for item in items]
        rows = {"accuracy": np.array([float(p["choice"] == r) for p, r in zip(predictions, right, strict=True)])}
        if all("cloze" in p for p in predictions):
            rows["cloze"] = np.array([float(p["cloze"] == r) for p, r in zip(predictions, right, strict=True)])
        return rows

    def chance(self, items: Sequence[Item]) -> dict[str, float]:
        share = float(np.mean([1 / len(item.choices) for item in items]))
        return {"accuracy": share, "cloze": share}


def choose(subject: Subject, video: EncodedVideo | None, item: Item) -> Prediction:
    """Returns the option of an item that a model chooses by its letter."""
    if not subject.has_likelihoods:
        answer = subject.ask(video, with_options(item)).text
        return {"choice": chosen_option(answer, item.choices), "answer": answer}
    by_letter = subject.first_words(video, with_options(item), LETTERS[: len(item.choices)])
    return {"choice": int(np.argmax(by_letter)), "logprobs": by_letter}


def with_options(item: Item) -> str:
    """Returns the question followed by its options, in the format in which `data_gen` writes training data."""
    options = (f"{letter}. {choice}" for letter, choice in zip(LETTERS, item.choices, strict=False))
    return "\n".join([item.question, *options, "Answer with the letter."])
