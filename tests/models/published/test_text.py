"""Prompts, label masks and sampled frames of the published systems equal those of their official code."""

import pytest
import torch

from tests.models.published.legacy_tokenizer import LegacyTokenizer
from tests.models.published.recorded import recorded, tokenizer_file
from videollm.models.published import video_chatgpt_text, video_llama_text, videochat2_text
from videollm.video import rules as sampling


def padded(rows: list[list[int]], value: int) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True, value)


def video_llama_tokenizer() -> LegacyTokenizer:
    return LegacyTokenizer(tokenizer_file(), {"<ImageHere>": 448, "<AudioHere>": 449})


@pytest.mark.parametrize(("file", "template"), [("vision", "vicuna"), ("vision", "llama_v2"), ("audio", "vicuna")])
def test_video_llama_conversations(file: str, template: video_llama_text.Template):
    data = recorded(f"VideoLLaMA/{file}")
    given, stage = data.text["inputs"], "stage2_conv" if template == "vicuna" else "stage2_conv_llama_v2"
    tokens = data.config["tokens_per_video"]
    rows = []
    for sample, text in zip(given["qas"], data.text[f"{stage}_texts"], strict=True):
        turns = [(turn["q"], turn["a"]) for turn in sample]
        turns[0] = (video_llama_text.visual_question(turns[0][0], tokens, given["msg"]), turns[0][1])
        assert video_llama_text.conversation_text(turns, template) == text
        rows.append(video_llama_text.conversation_labels(turns, template, video_llama_tokenizer()))
    ids, labels = (padded([row[i] for row in rows], value) for i, value in ((0, 0), (1, -100)))
    assert torch.equal(ids, data.input[f"{stage}/input_ids"])
    assert torch.equal(labels, data.input[f"{stage}/labels"])


def test_video_llama_captions():
    data = recorded("VideoLLaMA/vision")
    tokenize = video_llama_tokenizer()
    prompt = video_llama_text.caption_prompt_text(video_llama_text.IMAGE_PROMPTS[0], "vicuna")
    assert prompt == data.text["stage2_caption_prompt"]
    before, after = prompt.split(video_llama_text.PLACEHOLDER)
    assert tokenize(before, bos=False) == data.input["stage2_caption/before_ids"][0].tolist()
    assert tokenize(after, bos=False) == data.input["stage2_caption/after_ids"][0].tolist()
    captions = data.text["inputs"]["captions"]
    ends = {"stage1": "\n", "stage2_caption": video_llama_text.end_of_caption("vicuna")}
    for stage, end in ends.items():
        ids = padded([tokenize(caption + end, bos=False) for caption in captions], 0)
        assert torch.equal(ids, data.input[f"{stage}/caption_ids"])


@pytest.mark.parametrize("template", ["vicuna", "llama_v2"])
def test_video_llama_demo(template: video_llama_text.Template):
    data = recorded("VideoLLaMA/vision")
    chosen = sampling.uniform_indices(data.config["demo_vlen"], 8)
    seen = "<Video><ImageHere></Video> " + video_llama_text.frames_message(chosen, data.config["demo_fps"])
    asked = data.text["inputs"]["demo_turns"]
    turns = [[(asked[0][0], None)], [(asked[0][0], asked[0][1]), (asked[1][0], None)]]
    for i, turn in enumerate(turns, 1):
        text = video_llama_text.demo_text(turn, seen, template)
        assert text == data.text[f"demo_{template}_turn{i}_prompt"]
        for j, segment in enumerate(text.split(video_llama_text.PLACEHOLDER)):
            ids = video_llama_tokenizer()(segment, bos=j == 0)
            assert ids == data.input[f"demo_{template}/turn{i}_segment{j}_ids"][0].tolist()


def test_video_llama_demo_with_sound():
    data = recorded("VideoLLaMA/audio")
    turns = [(data.text["inputs"]["demo_q"], None)]
    text = video_llama_text.demo_text(turns, video_llama_text.SOUND_AND_VIDEO, "vicuna", system="")
    assert text == data.text["demo_audio_prompt"]


def test_video_llama_frames_and_captions():
    config = recorded("VideoLLaMA/preprocessing").config
    for row in config["uniform_sampling"]:
        chosen = sampling.uniform_indices(row["vlen"], row["n_frms"])
        assert chosen == row["indices"]
        assert video_llama_text.frames_message(chosen, row["fps"]) == row["msg"]
    for row in config["headtail_sampling"]:
        assert sampling.head_tail_indices(row["vlen"], row["n_frms"], row["python_random_seed"]) == row["indices"]
    for caption, processed in config["caption_processor"]:
        assert video_llama_text.caption_text(caption) == processed


def test_video_llama_answers():
    assert video_llama_text.clean_answer(" Assistant: a dog. ###Human: what", "vicuna") == "a dog."
    assert video_llama_text.clean_answer("a dog. </s>", "llama_v2") == "a dog."


def test_video_chatgpt():
    data = recorded("VideoChatGPT/video_chatgpt")
    tokenize = LegacyTokenizer(tokenizer_file(), data.config["special_tokens"])
    rows = data.input["train/features"].shape[1]
    shown = f"<vid_patch>*{rows}"
    asked = data.text["inputs"]["turns"]
    for i in (1, 2):
        turns = [(question, answer) for question, answer in asked[:i]]
        turns[-1] = (turns[-1][0], None)
        text = video_chatgpt_text.inference_text(turns, rows)
        assert text.replace("<vid_patch>" * rows, shown) == data.text[f"prompt_video-chatgpt_v1_turn{i}"]
        assert tokenize(text) == data.input[f"infer_video-chatgpt_v1/turn{i}_ids"][0].tolist()
    samples = []
    for i, sample in enumerate(data.text["inputs"]["train"]):
        said = [turn["value"] for turn in sample]
        text = video_chatgpt_text.training_text(list(zip(said[::2], said[1::2], strict=True)), rows)
        assert text.replace("<vid_patch>" * rows, shown) == data.text[f"train_prompt_{i}"]
        samples.append(video_chatgpt_text.training_labels(text, tokenize))
    assert torch.equal(padded([ids for ids, _ in samples], 0), data.input["train/input_ids"])
    assert torch.equal(padded([labels for _, labels in samples], -100), data.input["train/labels"])
    for row in data.config["frame_sampling"]:
        assert sampling.middle_of_rounded_indices(row["total"], row["num_frm"]) == row["indices"]
    assert video_chatgpt_text.clean_answer(" two dogs</s>") == "two dog"


def test_video_chatgpt_ignores_a_sample_whose_pieces_do_not_add_up():
    data = recorded("VideoChatGPT/video_chatgpt")
    tokenize = LegacyTokenizer(tokenizer_file(), data.config["special_tokens"])
    ids, labels = video_chatgpt_text.training_labels("A chat. USER: a ASSISTANT: b ASSISTANT: c</s>", tokenize)
    assert labels == [-100] * len(ids)


@pytest.mark.parametrize("media", ["video", "image"])
def test_videochat2_texts(media: videochat2_text.Media):
    data = recorded("VideoChat2/videochat2_it")
    given = data.text["inputs"]
    tokenize = LegacyTokenizer(tokenizer_file(), {})
    for i, sample in enumerate(given["qas"]):
        turns = [(turn["q"], turn["a"]) for turn in sample]
        text, instruction = videochat2_text.training_text(turns, sample[0]["i"], given["msg"], media)
        assert text == data.text[f"train_{media}_conversations"][i]
        assert instruction == data.text[f"train_{media}_instructions"][i]
        end = f"</{media.capitalize()}>"
        before, after = text.split(end)
        assert tokenize(before, bos=False) == data.input[f"train_{media}/before_ids_{i}"][0].tolist()
        assert tokenize(end + after, bos=False) == data.input[f"train_{media}/after_ids_{i}"][0].tolist()
    captions = recorded("VideoChat2/videochat2_pt")
    assert videochat2_text.caption_prompt_text(media) == captions.text[f"{media}_prompt"]


def test_videochat2_demo_and_frames():
    data = recorded("VideoChat2/videochat2_it")
    asked = data.text["inputs"]["demo_turns"]
    for i in (1, 2):
        turns = [(question, answer) for question, answer in asked[:i]]
        turns[-1] = (turns[-1][0], None)
        assert videochat2_text.demo_text(turns) == data.text[f"demo_turn{i}_prompt"]
    for row in data.config["frame_sampling_middle"]:
        assert sampling.middle_indices(row["vlen"], row["num_frames"]) == row["indices"]
    for row in data.config["demo_frame_sampling"]:
        assert sampling.shifted_indices(row["vlen"], row["num_segments"]) == row["indices"]
