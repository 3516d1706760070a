"""Chat completions through OpenAI's own client, against the server as a user starts it."""

import base64
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from tests.serve.conftest import SAMPLE, Server, asked, data_url
from videollm.models.language import debug_tokenizer

VARIED = {"temperature": 2.0, "seed": 5}  # greedy, the debug model's random weights say nothing


def test_models_and_health(client: Any, server: Server):
    assert [m.id for m in client.models.list()] == ["debug"] == [client.models.retrieve("debug").id]
    assert httpx.get(f"{server.url}/health").json()["status"] == "ok"
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("gpt-4")
    assert refused.value.code == "model_not_found"


def test_an_answer_about_a_clip(client: Any, clip: str):
    made = client.chat.completions.create(model="debug", messages=asked(clip), max_tokens=12, **VARIED)
    choice, usage, receipt = made.choices[0], made.usage, made.receipt
    assert choice.message.role == "assistant" and choice.message.content and choice.finish_reason == "length"
    assert usage and usage.completion_tokens == 12 == usage.total_tokens - usage.prompt_tokens
    assert receipt["prompt_tokens"] == usage.prompt_tokens and receipt["model"] == "debug"
    (video,) = receipt["videos"]
    assert (video["frames"], video["fps"], video["start"], video["detail"]) == (24, 2.0, 0.0, "auto")
    assert video["times"][:3] == [0.0, 0.5, 1.0] and video["duration"] == pytest.approx(12, abs=0.01)
    assert all(0 <= e["start"] < e["end"] <= 12 and e["video"] == 0 for e in choice.evidence)


def test_streaming_gives_the_same_answer_and_usage(client: Any, clip: str):
    whole = client.chat.completions.create(model="debug", messages=asked(clip), max_tokens=16, n=2, **VARIED)
    stream = client.chat.completions.create(
        model="debug",
        messages=asked(clip),
        max_tokens=16,
        n=2,
        **VARIED,
        stream=True,
        stream_options={"include_usage": True},
    )
    texts, finishes, receipts, usage = ["", ""], {}, [], None
    for chunk in stream:
        usage = chunk.usage or usage
        receipts += [chunk.receipt] if getattr(chunk, "receipt", None) else []
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                finishes[choice.index] = choice.finish_reason
    assert texts == [choice.message.content for choice in whole.choices]
    assert texts[0] != texts[1]  # each with its own seed
    assert finishes == {0: "length", 1: "length"} and len(receipts) == 1
    assert usage and whole.usage and usage.completion_tokens == whole.usage.completion_tokens == 32


def test_the_video_options_take_effect_and_come_back(client: Any, clip: str):
    def seen(**options: object) -> dict:
        made = client.chat.completions.create(
            model="debug", messages=asked(clip), max_tokens=1, extra_body={"video": options}
        )
        return made.receipt["videos"][0]

    some = seen(frames=5, start=2, end=7)
    assert (some["frames"], some["start"], some["end"], some["detail"]) == (5, 2.0, 7.0, None)
    assert all(2 <= t <= 7 for t in some["times"])
    assert seen(fps=1)["times"] == [float(second) for second in range(12)]
    assert [seen(detail=detail)["frames"] for detail in ("low", "auto", "high")] == [12, 24, 48]
    for bad, message in [
        ({"frames": 4, "fps": 1}, "one of frames, fps and detail"),
        ({"start": 5, "end": 4}, "end must be above start"),
        ({"start": 60}, "must be before the end"),
        ({"frames": 4000}, "the limit is 2048"),
        ({"zoom": 2}, "unsupported parameter: 'video.zoom'"),
    ]:
        with pytest.raises(openai.BadRequestError, match=message):
            seen(**bad)


def test_several_videos_and_pictures_each_where_it_stands(client: Any, clip: str):
    picture = BytesIO()
    Image.fromarray(np.full((60, 80, 3), 128, np.uint8)).save(picture, "PNG")
    image = data_url(picture.getvalue(), "image/png")
    messages = [
        *asked(clip),
        {"role": "assistant", "content": "A cat."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "And this?"},
                {"type": "image_url", "image_url": {"url": image}},
                {"type": "video_url", "video_url": {"url": clip}},
            ],
        },
    ]
    made = client.chat.completions.create(model="debug", messages=messages, max_tokens=4)
    assert [v["frames"] for v in made.receipt["videos"]] == [24, 1, 24]


def test_text_alone_is_answered_too(client: Any):
    made = client.chat.completions.create(
        model="debug",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
            {"role": "system", "content": "Be kind."},
        ],
        max_tokens=3,
    )
    assert made.usage and made.usage.completion_tokens == 3
    assert made.receipt["videos"] == [] == made.choices[0].evidence


def test_stop_seed_and_logprobs(client: Any):
    def ask(**more: object):
        messages = [{"role": "user", "content": "Hello"}]
        return client.chat.completions.create(model="debug", messages=messages, max_tokens=40, **VARIED | more)

    choice = ask(logprobs=True, top_logprobs=2).choices[0]
    text = choice.message.content
    assert choice.logprobs and choice.logprobs.content and len(choice.logprobs.content) == 40
    assert all(
        len(t.top_logprobs) == 2 and t.logprob <= t.top_logprobs[0].logprob <= 0 for t in choice.logprobs.content
    )
    assert ask().choices[0].message.content == text != ask(seed=6).choices[0].message.content
    stop = text[len(text) // 2 :][:2]
    stopped = ask(stop=[stop]).choices[0]
    assert stopped.message.content == text[: text.index(stop)] and stopped.finish_reason == "stop"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("logit_bias", {"99999": 2}),
        ("frequency_penalty", 2.5),
        ("modalities", ["text", "audio"]),
        ("best_of", 2),
    ],
)
def test_what_is_not_supported_is_refused_by_name(client: Any, field: str, value: object):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model="debug", messages=[{"role": "user", "content": "Hi"}], extra_body={field: value}
        )
    assert (refused.value.param or "").startswith(field) and field in refused.value.message
    assert refused.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("messages", "code", "text"),
    [
        (asked("data:video/mp4;base64,AAAA"), "invalid_media", "not a video or image"),
        (asked("data:video/mp4;base64,!"), "invalid_media_url", "not base64"),
        (asked("data:text/html;base64,AAAA"), "invalid_media_url", "not a video"),
        (asked("file-none"), "file_not_found", "no file"),
        (asked("file:///etc/passwd"), "invalid_media_url", "--media-root"),
        (asked("http://127.0.0.1/a.mp4"), "invalid_media_url", "--allow-remote"),
        (asked("ftp://example.com/a.mp4"), "invalid_media_url", "give a data: URL"),
        ([{"role": "assistant", "content": "Hi"}], "invalid_value", "last message must be the user"),
        ([{"role": "user", "content": "Hello " * 2000}], "context_length_exceeded", "the context is 2048"),
    ],
)
def test_errors_have_openais_shape_and_say_where(client: Any, messages: list, code: str, text: str):
    with pytest.raises(openai.APIStatusError, match=text) as refused:
        client.chat.completions.create(model="debug", messages=messages)
    assert refused.value.code == code and 400 <= refused.value.status_code < 500
    if "media" in code or "file" in code:
        assert refused.value.param == "messages.0.content.0"


def test_errors_of_http_itself_have_the_shape_too(server: Server):
    for answer, code in [
        (httpx.get(f"{server.url}/v1/nothing"), "not_found"),
        (httpx.get(f"{server.url}/v1/chat/completions"), "method_not_allowed"),
        (
            httpx.post(f"{server.url}/v1/chat/completions", content=b"{", headers={"Content-Type": "application/json"}),
            "invalid_json",
        ),
        (httpx.post(f"{server.url}/v1/chat/completions", json={}), "missing_required_parameter"),
    ]:
        assert answer.json()["error"]["code"] == code and 400 <= answer.status_code < 500


def test_uploaded_files_are_listed_used_and_deleted(client: Any, clip: str):
    uploaded = client.files.create(file=SAMPLE, purpose="user_data")
    assert uploaded.id.startswith("file-") and uploaded.bytes == SAMPLE.stat().st_size
    assert uploaded.id in [f.id for f in client.files.list()] and client.files.retrieve(uploaded.id).id == uploaded.id
    assert client.files.content(uploaded.id).read() == SAMPLE.read_bytes()
    by_id = client.chat.completions.create(model="debug", messages=asked(uploaded.id), max_tokens=8, **VARIED)
    by_data = client.chat.completions.create(model="debug", messages=asked(clip), max_tokens=8, **VARIED)
    assert by_id.choices[0].message.content == by_data.choices[0].message.content
    assert client.files.delete(uploaded.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(uploaded.id)
    with pytest.raises(openai.BadRequestError, match="purpose must be one of"):
        client.files.create(file=SAMPLE, purpose="fine-tune")


def test_the_next_turn_reuses_features_and_prefix(server: Server, client: Any, clip: str):
    part = {"video": {"start": 1.0}}  # not asked about elsewhere
    first = client.chat.completions.create(model="debug", messages=asked(clip), max_tokens=8, extra_body=part, **VARIED)
    assert first.usage and first.receipt["ms"]["decode"] > 0
    history = [
        *asked(clip),
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "And then?"},
    ]
    second = client.chat.completions.create(model="debug", messages=history, max_tokens=8, extra_body=part)
    assert second.receipt["ms"]["decode"] == 0
    assert second.usage and second.usage.prompt_tokens_details
    assert second.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens - 1
    assert (
        server.metric('videollm_cache_bytes{cache="features"}')
        > 0
        < server.metric('videollm_cache_bytes{cache="prefixes"}')
    )
    assert server.metric('videollm_tokens_total{kind="cached"}') > 0


def test_answers_are_never_mixed_up_and_a_clip_is_decoded_once(server: Server, client: Any, clip: str):
    part = {"video": {"start": 2.0, "end": 9.0}}
    decoded = server.metric('videollm_step_seconds_count{step="decode"}')

    def ask(number: int) -> str:
        made = client.chat.completions.create(
            model="debug",
            messages=asked(clip, f"Marker {number}?"),
            max_tokens=10,
            temperature=2.0,
            seed=number,
            extra_body=part,
        )
        return made.choices[0].message.content or ""

    with ThreadPoolExecutor(24) as clients:
        at_once = list(clients.map(ask, range(24)))
    assert server.metric('videollm_step_seconds_count{step="decode"}') == decoded + 1
    assert at_once == [ask(number) for number in range(24)]
    assert len(set(at_once)) == 24


def test_embeddings_as_numbers_and_as_base64(client: Any, clip: str):
    numbers = client.embeddings.create(model="debug", input=["a cat", "a rocket"], encoding_format="float")
    packed = client.embeddings.create(model="debug", input=["a cat", "a rocket"])  # base64 on the wire
    assert np.allclose([d.embedding for d in numbers.data], [d.embedding for d in packed.data])
    assert numbers.usage.prompt_tokens == 4 and np.allclose(np.linalg.norm(numbers.data[0].embedding), 1, atol=1e-5)
    parts = [{"type": "video_url", "video_url": {"url": clip}}, {"type": "text", "text": "a cat"}]
    mixed = client.embeddings.create(model="debug", input=parts, encoding_format="float")
    assert np.allclose(mixed.data[1].embedding, numbers.data[0].embedding) and len(mixed.data[0].embedding) == 16
    short = client.embeddings.create(model="debug", input="a cat", dimensions=8).data[0].embedding
    whole = np.array(numbers.data[0].embedding)
    assert np.allclose(short, whole[:8] / np.linalg.norm(whole[:8]), atol=1e-5)
    with pytest.raises(openai.BadRequestError, match="dimensions is 17; the model has vectors of 16"):
        client.embeddings.create(model="debug", input="a", dimensions=17)
    ids = debug_tokenizer()("a cat")["input_ids"]
    by_ids = client.embeddings.create(model="debug", input=[ids, ids])
    assert len(by_ids.data) == 2 and np.allclose(by_ids.data[1].embedding, whole, atol=1e-5)
    assert len(client.embeddings.create(model="debug", input=ids).data) == 1
    with pytest.raises(openai.BadRequestError, match=r"input\.0: token 1000 is not one of the 258"):
        client.embeddings.create(model="debug", input=[1000])


def test_captions_summaries_and_no_index(server: Server, clip: str):
    body = {"model": "debug", "video": {"url": clip}}
    made = httpx.post(f"{server.url}/v1/videos/caption", json={**body, "dense": True}, timeout=300).json()
    assert made["captions"][0]["start"] == 0 and made["captions"][-1]["end"] == pytest.approx(12, abs=0.01)
    made = httpx.post(f"{server.url}/v1/videos/summarize", json={**body, "parts": 2}, timeout=300).json()
    assert len(made["parts"]) == 2 and sum(part["share"] for part in made["parts"]) == pytest.approx(1)
    refused = httpx.post(f"{server.url}/v1/videos/search", json={"query": "cat"})
    assert refused.status_code == 404 and refused.json()["error"]["code"] == "no_index"


def test_responses_whole_and_streamed(client: Any, clip: str):
    question = [
        {
            "role": "user",
            "content": [{"type": "input_video", "video_url": clip}, {"type": "input_text", "text": "What is it?"}],
        }
    ]
    more = {"model": "debug", "input": question, "max_output_tokens": 12}
    whole = client.responses.create(**more)
    assert whole.status == "incomplete" and whole.incomplete_details.reason == "max_output_tokens"
    assert whole.usage.output_tokens == 12 and whole.receipt["videos"][0]["frames"] == 24
    *_, last = client.responses.create(**more, stream=True)
    assert last.type == "response.incomplete" and last.response.output_text == whole.output_text
    text, kinds = "", []
    for event in client.responses.create(**more | {"temperature": 2.0, "max_output_tokens": 60}, stream=True):
        kinds.append(event.type)
        text += event.delta if event.type == "response.output_text.delta" else ""
        last = event
    # Such an answer cannot be asked for a second time, nor for how long it is: this API has no seed.
    assert kinds[0] == "response.created" and kinds[-1] in ("response.completed", "response.incomplete")
    assert last.response.output_text == text
    follow = [*question, *last.response.output, {"role": "user", "content": "And then?"}]
    assert client.responses.create(model="debug", input=follow, max_output_tokens=2).output[0].type == "message"


def test_a_response_continues_an_earlier_one(client: Any, clip: str):
    video = {"type": "input_video", "video_url": clip}
    question = [{"role": "user", "content": [video, {"type": "input_text", "text": "What is it?"}]}]
    first = client.responses.create(model="debug", input=question, instructions="Be brief.", max_output_tokens=4)
    second = client.responses.create(
        model="debug", input="And then?", previous_response_id=first.id, max_output_tokens=4
    )
    assert second.previous_response_id == first.id and second.receipt["videos"][0]["frames"] == 24
    assert second.usage.input_tokens > first.usage.input_tokens
    assert client.responses.retrieve(first.id).output_text == first.output_text
    client.responses.delete(first.id)
    kept_not = client.responses.create(model="debug", input="Hi", store=False, max_output_tokens=1)
    for unknown in ("resp_1", first.id, second.id, kept_not.id):  # the second continues one that is gone
        with pytest.raises(openai.NotFoundError) as refused:
            client.responses.create(model="debug", input="Hi", previous_response_id=unknown)
        assert refused.value.param == "previous_response_id" and refused.value.code == "response_not_found"


def test_base64_of_a_whole_float_is_little_endian(server: Server):
    body = {"model": "debug", "input": "a cat", "encoding_format": "base64"}
    packed = httpx.post(f"{server.url}/v1/embeddings", json=body).json()["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(packed), "<f4").shape == (16,)
