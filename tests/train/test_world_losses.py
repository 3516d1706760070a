"""Objectives on the rendered world: each lowers its loss on new clips, and reads and leaves out what it says."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from train import dense
from train.configs.dense import WORLD_EVENTS
from train.data.areas import boxes, text_areas
from train.data.rendered_pairs import pair, true_reader
from train.experiments import objectives
from train.experiments.dense_objectives import RegionReader, dense_task, region_collate, region_items
from train.experiments.objective_runs import clips, held_out, trained
from train.experiments.objectives import aligned, omni_collate, omni_prompts
from train.tasks.dense import DenseModel, DenseTask
from train.tasks.loss_inputs import LossInputs
from train.tasks.losses import PrefixCaption, TextCaption
from train.tasks.masked_pixels import MaskedPixels, patch_pixels
from train.tasks.region_contrast import RegionContrast
from videollm.models.visual_prompting import VisualBatch

NEW, TRAIN = clips(32, 0), clips(320, 1)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("words")


@pytest.mark.parametrize(
    ("loss", "steps", "below"), [("plm", 40, 0.5), ("mlm", 40, 0.6), ("mvm", 60, 0.8)], ids=["plm", "mlm", "mvm"]
)
def test_losses_of_stage1_fall_on_new_clips(words: Path, loss: str, steps: int, below: float):
    model = true_reader(words, 0)
    module, collate = aligned(model, loss)
    new, train = ([pair(clip) for clip in some] for some in (NEW, TRAIN))
    before = held_out(module, collate, new).mean()
    trained(module, collate, train, steps, seed=0)
    assert held_out(module, collate, new).mean() < below * before


def test_omni_captions_fall_on_new_clips_and_need_the_sound(words: Path):
    model = true_reader(words, 0, hears=True)
    model.llm.requires_grad_(True)
    collate, own = omni_collate(model), omni_prompts(model, NEW)
    before = held_out(model.llm, collate, own).mean()
    trained(model.llm, collate, omni_prompts(model, TRAIN), 120, seed=0)
    after = held_out(model.llm, collate, own).mean()
    silent = omni_prompts(model, NEW, [replace(clip, sounds=()) for clip in NEW])
    assert after < 0.4 * before and after < held_out(model.llm, collate, silent).mean()


@pytest.fixture(scope="module")
def texts(words: Path) -> LossInputs:
    module, collate = aligned(true_reader(words, 0), "plm")
    return LossInputs(module.llm, module.eval().aligner, collate([pair(clip) for clip in NEW[:6]])["pairs"])


class FixedPrefix(PrefixCaption):
    def __init__(self, prefix: torch.Tensor):
        super().__init__()
        self.fixed = prefix

    def prefixes(self, mask: torch.Tensor) -> torch.Tensor:
        return self.fixed


def test_a_prefix_of_the_start_token_is_captioning(texts: LossInputs):
    torch.testing.assert_close(FixedPrefix(torch.ones(6).long())(texts), TextCaption()(texts))


def test_a_prefix_is_read_in_both_directions_and_the_rest_is_not(texts: LossInputs):
    pair, batch, prefix = texts.aligner.pair, texts.pairs.texts, torch.tensor([4, 4, 4, 4, 2, 7])

    def words(at: int | None = None) -> torch.Tensor:
        ids = batch.ids.clone()
        if at is not None:
            ids[:, at] = (ids[:, at] + 7) % 200
        return pair.predict_words(ids, batch.mask, texts.queries[1], prefix).detach()

    plain = words()
    for at in (3, 5):
        differs = ((words(at) - plain).abs() > 1e-5).any(-1)
        inside = at < prefix
        assert differs[inside].logical_or(~batch.mask[inside]).all()
        assert not differs[~inside, :at].any() and differs[~inside, at].all()


def test_a_prefix_bears_no_loss(texts: LossInputs):
    batch, prefix = texts.pairs.texts, torch.tensor([1, 2, 3, 4, 5, 6])
    logits = texts.aligner.pair.predict_words(batch.ids, batch.mask, texts.queries[1], prefix)
    rows = [
        (logits[i, k - 1 : n - 1], batch.ids[i, k:n])
        for i, (k, n) in enumerate(zip(prefix.tolist(), batch.mask.sum(1).tolist(), strict=True))
    ]
    naive = torch.nn.functional.cross_entropy(
        torch.cat([x for x, _ in rows]), torch.cat([y for _, y in rows]), label_smoothing=0.1
    )
    torch.testing.assert_close(FixedPrefix(prefix)(texts), naive)


def test_prefixes_are_some_words_and_never_all():
    mask = pad_sequence([torch.ones(n, dtype=torch.bool) for n in (2, 3, 9)], batch_first=True)
    drawn = torch.stack([PrefixCaption().prefixes(mask) for _ in range(300)])
    assert [sorted(set(drawn[:, i].tolist())) for i in range(3)] == [[1], [1, 2], list(range(1, 9))]


def test_masked_pixels_fall_on_new_clips():
    task = dense_task(mvm=1.0)
    before = held_out(task.module, task.collate, NEW).mean()
    trained(task.module, task.collate, TRAIN, 12, seed=0)
    assert held_out(task.module, task.collate, NEW).mean() < 0.8 * before


def test_contrast_of_boxes_and_clips_falls_on_new_clips(words: Path):
    model = true_reader(words, 0)
    collate, reader = region_collate(model), RegionReader(64)
    new = region_items(NEW)
    before = held_out(reader, collate, new).mean()
    trained(reader, collate, region_items(TRAIN), 40, seed=0)
    assert held_out(reader, collate, new).mean() < 0.8 * before


def test_hidden_pixels_are_not_seen_and_alone_bear_the_loss():
    class Fixed(MaskedPixels):
        def hidden_patches(self, clips: int, patches: int, device: torch.device) -> torch.Tensor:
            return (torch.arange(patches) % 3 == 0).expand(clips, -1)

    torch.manual_seed(0)
    loss, shown = Fixed(8, 4), []
    pixels = torch.randint(256, (2, 3, 3, 16 * 16))

    def read(visual: VisualBatch) -> torch.Tensor:
        shown.append(visual.tokens)
        return torch.randn(2, 2, 4, 8, generator=torch.Generator().manual_seed(1))

    mask = torch.tensor([[True] * 3, [True, True, False]])
    found, _ = loss(read, VisualBatch(pixels, torch.arange(3.0).expand(2, -1), mask))
    images, seen = pixels.float().view(2, 3, 3, 16, 16), shown[0].view(2, 3, 3, 16, 16)
    cubes = loss.predict(read(VisualBatch(pixels, torch.arange(3.0).expand(2, -1), mask)))
    errors = []
    for clip in range(2):
        for frame in range(3):
            for row in range(4):
                for column in range(4):
                    part = (clip, frame, slice(None), slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
                    if (4 * row + column) % 3:
                        assert torch.equal(seen[part], images[part])
                        continue
                    assert (seen[part] == 127.5).all()
                    values = images[part].flatten() / 255
                    values = (values - values.mean()) / (values.var(correction=0) + 1e-4).sqrt()
                    cube = cubes[clip, frame // 2, 2 * (row // 2) + column // 2].view(2, 2, 2, -1)
                    if mask[clip, frame]:
                        errors.append((cube[frame % 2, row % 2, column % 2] - values).square().mean())
    torch.testing.assert_close(found, torch.stack(errors).mean())
    assert patch_pixels(pixels.float(), 4).shape == (2, 3, 16, 48)


@pytest.mark.parametrize("patches", [2, 5, 64])
def test_hidden_patches_are_some_and_never_all(patches: int):
    hidden = MaskedPixels(8, 4, share=0.75).hidden_patches(50, patches, torch.device("cpu"))
    assert set(hidden.sum(1).tolist()) == {min(-(-3 * patches // 4), patches - 1)}
    assert len({tuple(row) for row in hidden.tolist()}) > 1


def test_a_box_is_where_its_thing_is():
    for clip in NEW[:12]:
        fine = {name: weights.view(-1, 16, 16) for name, weights in boxes(clip, 16)}
        coarse = {name: weights.view(-1, 4, 4) for name, weights in boxes(clip, 4)}
        names = {f"{thing.colour} {thing.shape}" for thing in clip.clip.things}
        assert fine.keys() == coarse.keys() <= names
        for name, weights in fine.items():
            pooled = torch.nn.functional.avg_pool2d(weights, 4)
            torch.testing.assert_close(coarse[name], pooled, atol=1e-5, rtol=0)
        if len(clip.clip.things) == 1 and not clip.clip.things[0].next_colour and (clip.clip.stage.alpha == 1).all():
            x, y, radius = (torch.from_numpy(v[0]).float() for v in clip.clip.stage.on_screen())
            if ((x - radius > 0) & (x + radius < 1) & (y - radius > 0) & (y + radius < 1)).all():
                (weights,) = fine.values()
                sizes = ((2 * radius) ** 2).view(-1, 2).mean(1)
                torch.testing.assert_close(weights.sum((1, 2)) / 256, sizes, atol=1e-5, rtol=1e-4)


def test_regions_compare_what_is_in_a_box_with_its_name():
    task = dense_task(regions=1.0, frames_of_clip=0)
    areas = text_areas(NEW[:8], 4, task.model)
    heads = task.module.heads["regions"]
    assert isinstance(heads, RegionContrast)
    tokens = torch.randn(8, 12, 16, 128, requires_grad=True)
    first = int(areas.is_box.nonzero()[0])
    heads.embed_areas(tokens, areas)[first].sum().backward()
    assert tokens.grad is not None
    touched = tokens.grad.abs().sum(-1) > 0
    assert torch.equal(touched[areas.clip[first]], areas.weights[first] > 0) and touched.sum(0).sum() == touched.sum()
    found, _ = heads(tokens, areas)
    seen, said = heads.embed_areas(tokens, areas), heads.embed_texts(areas.texts)
    naive = []
    for rows in (areas.is_box.nonzero().flatten().tolist(), (~areas.is_box).nonzero().flatten().tolist()):
        for left, right in ((seen, said), (said, seen)):
            for i in rows:
                chances = (10 * right[rows] @ left[i]).log_softmax(0)
                same = torch.tensor([torch.equal(areas.texts[j], areas.texts[i]) for j in rows])
                naive.append(-chances[same].mean() / (4 * len(rows)))
    torch.testing.assert_close(found, torch.stack(naive).sum())


@pytest.mark.slow
def test_losses_without_dense_truth_give_a_checkpoint_that_dense_truth_starts_from(tmp_path: Path):
    common = {"llm": "debug", "num_videos": 8, "batch_size": 4}
    only = {"events": 0.0, "moments": 0.0, "readout": 0.0, "mvm": 1.0, "regions": 1.0}
    dense.train(WORLD_EVENTS.changed(output=str(tmp_path), init="", **only, **common))  # type: ignore[arg-type]
    own, truth = (
        DenseTask(WORLD_EVENTS.changed(init=str(tmp_path), **more, **common)).module.state_dict()  # type: ignore[arg-type]
        for more in (only, {})
    )
    fresh = dense_task(mvm=1.0, regions=1.0, frames_of_clip=0).module.state_dict()
    heads = {name for name in fresh if name.startswith(("heads.mvm", "heads.regions"))}
    assert heads and not heads & truth.keys()
    for name in ("heads.mvm.predict.1.weight", "heads.regions.text.weight", "temporal.tower.read.weight"):
        assert not torch.equal(own[name], fresh[name])
    assert all(torch.equal(own[name], truth[name]) for name in truth if name.startswith("temporal."))


def trained_parts(model: DenseModel) -> set[str]:
    return {name.split(".")[1] for name, p in model.named_parameters() if p.requires_grad}


def test_each_loss_trains_its_parts():
    assert trained_parts(dense_task(mvm=1.0).module) == {"tower", "module", "mvm"}
    assert trained_parts(dense_task(regions=1.0, frames_of_clip=0).module) == {"tower", "module", "regions"}


def test_an_omni_caption_says_what_is_seen_and_what_is_heard():
    for clip in NEW:
        question, answer = clip.omni_turn()
        assert question == "What is seen and heard?"
        assert answer == f"{clip.turns(0)[0][1]} {clip.heard}"
        at = [clip.heard.lower().index(sound.kind) for sound in clip.sounds]
        assert at == sorted(at) and (clip.heard == "Nothing is heard.") == (not clip.sounds)
    assert {len(clip.sounds) for clip in NEW} >= {0, 1, 2}


@pytest.mark.slow
def test_the_experiment_prints_a_row_for_each_loss_and_task(capsys: pytest.CaptureFixture[str]):
    objectives.main(["--scale", "0.01", "--seeds", "1"])
    rows = [row.split("|")[1].strip() for row in capsys.readouterr().out.splitlines() if row.startswith("| ")]
    starts = ("loss on new clips", "plm", "mvm, features", "audio", "omni captions", "mvm, pixels", "regions")
    assert tuple(rows[:7]) == starts
    assert {row.split(":")[0].split(" for ")[0].split(" beside ")[0] for row in rows[8:]} == {*starts[1:]}
