"""Parts of the page that need no browser."""

from html import unescape

from serve.api.schemas.chat import ChatReceipt
from serve.web import render
from serve.web.conversation import PageTurn
from serve.web.labels import LANGUAGES


def test_the_receipt_says_what_was_left_out():
    receipt = ChatReceipt(
        model="lite",
        config_sha="0" * 12,
        device="cpu",
        segments=3,
        merged_from=None,
        visual_tokens=96,
        prompt_tokens=900,
        cached_tokens=0,
        completion_tokens=4,
        dropped_turns=8,
        truncated=True,
        ms={},
        videos=[],
        temperature=0.0,
        top_p=1.0,
        seed=None,
    )
    for labels in LANGUAGES.values():
        shown = unescape(render.receipt(PageTurn("And then?", receipt=receipt), [], labels))
        assert labels.dropped_turns.format(count=8) in shown
