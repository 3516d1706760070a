"""Dense truth of rendered clips, and the way from it to a model that answers, at toy size."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import videollm
from data_gen.world.truth import annotate
from data_gen.world.vocabulary import COLOURS, KINDS
from data_gen.world.write import write_video
from tests.train.rows import sample
from train import dense, stage2
from train.configs.dense import DENSE
from train.configs.stage2 import STAGE2
from train.data.dense_truth import MOST, SHOWN_LOOKS, event_truth, frame_truth, stack
from train.data.rendered import RenderedClip, RenderedClips
from train.data.rendered_conversations import segment
from train.tasks.dense_heads import apart, frame_loss
from train.tasks.grpo import reward
from videollm.datasets.world_annotation import SHAPES
from videollm.features.encode import encode_video
from videollm.models.world_tower import TOKEN_PARTS

CLIPS = RenderedClips(60, 3)


@pytest.fixture(scope="module")
def clips() -> list[RenderedClip]:
    return [CLIPS[i] for i in range(len(CLIPS))]


def test_every_index_gives_one_clip_and_no_two_the_same():
    again = RenderedClips(60, 3)[7]
    assert torch.equal(again.pixels(), CLIPS[7].pixels()) and again.turns(5) == CLIPS[7].turns(5)
    assert not torch.equal(CLIPS[8].pixels(), CLIPS[7].pixels())
    assert torch.equal(again.pixels(np.array([2, 3])), again.pixels()[2:4])


def test_questions_that_can_be_checked_have_the_truth_of_the_clip(clips: list[RenderedClip]):
    kinds = set()
    for clip in clips[:20]:
        spans = {(clip.clip.time_s(event.start), clip.clip.time_s(event.end)) for event in clip.clip.events}
        for number, (asked, answer) in enumerate(clip.checked_turns()):
            is_choice = "\nA. " in asked
            kinds.add(is_choice)
            row = sample(str(number), "choice/any" if is_choice else "locate/event", asked, answer)
            worth = [reward(replace(row, answer_times=(span,)), answer) for span in spans]
            assert max(worth) > 0.8, (asked, answer)  # times are written in tenths of a second
            assert not is_choice or answer in asked.splitlines()
    assert kinds == {True, False}


def test_the_truth_is_that_of_the_annotation(clips: list[RenderedClip]):
    """Places, shapes, colours and events, against the annotation that evaluation reads."""
    for number, rendered in enumerate(clips):
        clip = rendered.clip
        known = annotate(clip, CLIPS.config, clip_id="a-0", split="train", number=number, order_pair=None)
        frames = frame_truth(clip, np.arange(clip.frame_count), 8)
        looks = zip(frames.shape.flatten().tolist(), frames.colour.flatten().tolist(), strict=True)
        seen = {(SHAPES[shape - 1], list(COLOURS)[colour - 1]) for shape, colour in looks if shape}
        turned = {(known.objects[e.object or 0].shape, e.after) for e in known.events if e.kind == "change_colour"}
        assert seen <= {(o.shape, o.colour) for o in known.objects} | turned
        events = event_truth(clip, 4)
        assert [KINDS[k - 1] for k in events.named[:, 0].tolist()] == [known.events[0].kind, known.events[-1].kind]
        for event in known.events:
            middle = round(8 * (event.start_s + event.end_s) / 2) // 2
            assert (events.kind[middle] == 1 + KINDS.index(event.kind)).any(), (event, events.kind.amax((1, 2)))
            kind, shape, colour = events.now[middle, :3].tolist()
            assert KINDS[kind - 1] == event.kind
            assert events.now[middle, 10:].tolist() == [
                round(8 * t) for t in (event.start_s + 0.125, event.end_s + 0.125, event.end_s - event.start_s)
            ]
            if event.object is not None:
                assert SHAPES[shape - 1] == known.objects[event.object].shape
                assert list(COLOURS)[colour - 1] in (known.objects[event.object].colour, event.after)
        for moment, (left, _, right, _, count) in enumerate(events.now[:, 5:10].tolist()):
            tracks = [(thing.track[2 * moment + 1], thing.shape) for thing in known.objects]
            shown = sorted((x, shape) for (_, x, _, _, _, visible), shape in tracks if visible)
            alpha = clip.stage.alpha[:, 2 * moment + 1]
            if ((alpha == 0) | (alpha == 1)).all():  # the annotation calls a thing visible while it hardly is
                assert count == min(len(shown), MOST)
                assert [SHAPES[k - 1] for k in (left, right) if k] == [shown[k][1] for k in (0, -1)[: len(shown)]]
        for thing in known.objects:
            for frame, (_, x, y, _, _, visible) in enumerate(thing.track):
                row, column = int(8 * y), int(8 * x)
                if visible and clip.stage.alpha[thing.id, frame] == 1 and len(known.objects) == 1:
                    place = frames.place[frame, row, column]
                    found = (column + 0.5 + float(place[0])) / 8, (row + 0.5 + float(place[1])) / 8
                    assert found == pytest.approx((x, y), abs=1e-3)


def test_flow_is_the_change_of_place(clips: list[RenderedClip]):
    moving = next(c.clip for c in clips if len(c.clip.things) == 1 and c.clip.events[0].kind == "move_right")
    frames = frame_truth(moving, np.arange(moving.frame_count), 8)
    middle = (moving.events[0].start + moving.events[0].end) // 2
    there = frames.shape[middle] > 0
    expected = 8 * (moving.stage.x[0, middle + 1] - moving.stage.x[0, middle - 1]) / 2
    torch.testing.assert_close(frames.flow[middle][there][:, 0].mean(), torch.tensor(expected).float())
    assert frames.flow[middle][~there].abs().max() < 1e-6 < frames.flow[middle][there][:, 0].min()
    panned = next(c.clip for c in clips if c.clip.events[0].kind in ("pan_left", "pan_right"))
    event = panned.events[0]
    flow = frame_truth(panned, np.arange(panned.frame_count), 8).flow[(event.start + event.end) // 2]
    assert (flow[..., 0] > 0).all() if event.kind == "pan_left" else (flow[..., 0] < 0).all()


def test_tokens_that_state_the_truth_have_hardly_a_loss(clips: list[RenderedClip]):
    chosen = np.arange(24)
    truth = stack([frame_truth(c.clip, chosen, 8) for c in clips[:4]])
    pixels = torch.stack([c.pixels().flatten(2) for c in clips[:4]])
    parts = [
        torch.nn.functional.one_hot(x, n).float()
        for x, n in zip((truth.shape, truth.colour), TOKEN_PARTS, strict=False)
    ]
    parts += [truth.place, truth.turn, truth.flow * torch.tensor([5.0, 5.0, 10.0, 2.0])]
    tokens = torch.cat([p.flatten(2, 3) for p in parts] + [torch.zeros(4, 24, 64, TOKEN_PARTS[-1])], -1)
    loss, measures = frame_loss(tokens, pixels, truth)
    assert float(loss - measures["pixels"]) < 1e-4
    assert measures["shape"] == measures["colour"] == 1 and measures["place"] < 1e-6
    assert measures["flow"] > 0.999


def test_no_pair_that_training_never_shows_is_pushed_away(clips: list[RenderedClip]):
    shape, colour = (torch.zeros(1, size, requires_grad=True) for size in SHOWN_LOOKS.shape)
    for losses in apart(shape, colour, torch.tensor([3]), torch.tensor([4])):
        losses.sum().backward()
    assert shape.grad is not None and colour.grad is not None
    assert torch.equal(shape.grad[0] != 0, SHOWN_LOOKS[:, 4]) and torch.equal(colour.grad[0] != 0, SHOWN_LOOKS[3])
    assert shape.grad[0, 3] < 0 and colour.grad[0, 4] < 0
    seen = stack([event_truth(rendered.clip, 4) for rendered in clips])
    assert SHOWN_LOOKS[seen.shape, seen.colour].all() and not SHOWN_LOOKS.all()


def test_from_pixels_to_a_model_that_answers(tmp_path: Path):
    """Tower, stem and language model are trained one after the other; the last checkpoint reads a clip's file as in
    training."""
    common = {"llm": "debug", "num_videos": 8, "batch_size": 4}
    frames, events, answers = (tmp_path / name for name in ("frames", "events", "answers"))
    dense.train(DENSE["world_frames"].changed(output=str(frames), **common))
    dense.train(DENSE["world_events"].changed(output=str(events), init=str(frames), **common))
    stage2.train(STAGE2["world_stage2"].changed(output=str(answers), init=str(events), **common))
    weights = [load_file(folder / "projector.safetensors") for folder in (frames, events, answers)]
    tower = [name for name in weights[0] if name.startswith("temporal.tower.")]
    stem = next(name for name in weights[0] if "tubelets.weight" in name)
    assert tower and all(torch.equal(w[name], weights[0][name]) for w in weights for name in tower)
    assert not torch.equal(weights[1][stem], weights[0][stem]) and torch.equal(weights[2][stem], weights[1][stem])

    model = videollm.load(str(answers))
    clip = CLIPS[0]
    write_video(tmp_path / "clip.mp4", clip.clip, CLIPS.config)
    video = encode_video(tmp_path / "clip.mp4", model.encoder, model.config.sampling)
    (shown,) = video.segments(model.config, model.encoder.vocabulary)
    expected = segment(clip)
    assert shown.tokens.shape == expected.tokens.shape and torch.equal(shown.times_s.float(), expected.times_s)
    assert (shown.tokens.float() - expected.tokens.float()).abs().mean() < 5  # of 255; the file is compressed
    session = videollm.ChatSession(model, str(tmp_path / "clip.mp4"))
    assert isinstance(session.ask("What does this video show?").text, str)
