"""What a question says of the thing that it asks for."""

import pytest

from videollm.chat.things import NamedThing, read_thing

KNOWN = {"cat", "dog", "person", "red wine", "hot dog", "wine glass", "old english sheepdog"}


@pytest.mark.parametrize(
    ("words", "thing"),
    [
        ("cat", NamedThing("cat")),
        ("cats", NamedThing("cat")),
        ("cup of coffee", NamedThing("cup of coffee")),
        ("sports car", NamedThing("sports car")),
        ("red wine", NamedThing("red wine")),
        ("hot dog", NamedThing("hot dog")),
        ("old english sheepdog", NamedThing("old english sheepdog")),
        ("wedding ring", NamedThing("wedding ring")),
        ("no cats", NamedThing("cat", is_none=True)),
        ("not a cat", NamedThing("cat", is_none=True)),
        ("two cats", NamedThing("cat", has_amount=True)),
        ("3 wine glasses", NamedThing("wine glass", has_amount=True)),
        ("more than one cat", NamedThing("cat", has_amount=True)),
        ("only one cat", NamedThing("cat", has_amount=True)),
        ("many people", NamedThing("person", has_amount=True)),
        ("couple of dogs", NamedThing("dog", has_amount=True)),
        ("pair of scissors", NamedThing("pair of scissors")),
        ("one-way street", NamedThing("one-way street")),
        ("black cat", NamedThing("cat", is_qualified=True)),
        ("black and white cat", NamedThing("cat", is_qualified=True)),
        ("very big dog", NamedThing("dog", is_qualified=True)),
        ("red-haired woman", NamedThing("woman", is_qualified=True)),
        ("cat on the moon", NamedThing("cat", is_qualified=True)),
        ("man in a red coat", NamedThing("man", is_qualified=True)),
        ("people who smile", NamedThing("person", is_qualified=True)),
        ("two black cats on a sofa", NamedThing("cat", has_amount=True, is_qualified=True)),
    ],
)
def test_names_amounts_and_what_cannot_be_checked(words: str, thing: NamedThing):
    assert read_thing(words, KNOWN) == thing
