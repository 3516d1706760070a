"""Prompts as templates: the words and the hashes of those that are in use, and errors in new ones."""

from pathlib import Path

import jinja2
import pytest

from data_gen.prompts import prompts
from videollm.evaluate.judge import ASPECTS, prompt
from videollm.inference.prompts import ChatPrompt

# Samples and reports record these. A changed word changes its hash; the syntax of templates does not.
HASHES = {
    "caption_dense": "03f8214d3e9e",
    "caption_detailed": "08b191f05358",
    "caption_short": "3484579c0bb7",
    "choice": "a8f8c0d93a52",
    "conversation": "1a2eaabec7aa",
    "creative": "e930b9066587",
    "judge": "33973f7a41e7",
    "qa_causal": "1d9766c71ac2",
    "qa_counting": "04ae76302be0",
    "qa_negative": "0c316cc0141f",
    "qa_spatial": "b5eb460e735f",
    "qa_speech": "8cafb869c27d",
    "qa_temporal": "0a89f5711a23",
    "summary": "2e9cbaccb46d",
    "translation": "61e7bde66a4d",
    "paraphrase": "b97083728421",
    "accuracy": "465afe776593",
    "correctness": "657ee9b1b743",
    "detail": "47367705b3c7",
    "context": "1d2b4024469a",
    "temporal": "56f95b7e2f50",
    "consistency": "2d160497e44b",
}


def environment(**files: str) -> jinja2.Environment:
    loader = jinja2.DictLoader({name.replace("_", "/") + ".jinja": text for name, text in files.items()})
    return jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, autoescape=False)


def test_every_prompt_has_the_hash_that_earlier_runs_recorded():
    used = [*prompts().values(), *(prompt(aspect) for aspect in ASPECTS)]
    assert {made.name: made.sha for made in used} == HASHES


def test_a_prompt_is_rendered_with_its_parts_and_values_unescaped():
    text = 'You are {% include "parts/who.jinja" %}.\n---\nSay "{{ what }}" & <b>.\n\n{{ more }}\n'
    made = ChatPrompt.load(environment(ask=text, parts_who="{{ name }}\n"), "ask.jinja")
    messages = made.render(name="Ann", what="$x {{ y }} <i>", more="1\n2\n")
    assert messages == [
        {"role": "system", "content": "You are Ann."},
        {"role": "user", "content": 'Say "$x {{ y }} <i>" & <b>.\n\n1\n2\n'},
    ]


def test_the_hash_changes_with_the_words_of_a_part_and_not_with_the_syntax():
    def sha(text: str, part: str) -> str:
        return ChatPrompt.load(environment(ask=text, parts_who=part), "ask.jinja").sha

    text = 'You are {% include "parts/who.jinja" %}.\n---\n{{ what }}\n'
    assert sha(text, "Ann\n") == sha("You are Ann.\n---\n{{what}}\n", "") != sha(text, "Bob\n")
    assert sha(text, "Ann\n") != sha(text.replace("what", "who"), "Ann\n")


def test_a_missing_value_a_missing_part_and_a_wrong_head_are_errors():
    made = ChatPrompt.load(environment(ask="a\n---\n{{ what }}\n"), "ask.jinja")
    with pytest.raises(jinja2.UndefinedError, match="'what' is undefined"):
        made.render(other="x")
    with pytest.raises(jinja2.TemplateNotFound, match="parts/gone"):
        ChatPrompt.load(environment(ask='{% include "parts/gone.jinja" %}\n---\nb\n'), "ask.jinja")
    with pytest.raises(TypeError, match="mood"):
        ChatPrompt.load(environment(ask="mood: good\n---\na\n---\nb\n"), "ask.jinja")


def test_every_prompt_is_in_the_package():
    folder = Path(__file__).parents[2] / "data_gen/prompts"
    assert {path.stem for path in folder.glob("*.jinja")} == prompts().keys()
