"""`train/retrieval.py` for real, at toy size: every recipe, data formats, resuming, ranks, adapters, refusals."""

import csv
import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.train import processes, tiny
from train import clip, retrieval
from train.configs.base import leaves
from train.configs.retrieval import RETRIEVAL
from train.data.frames import frame_store
from train.data.pair_batches import PairBatches
from train.data.pairs import CaptionPair, GroupedSampler, VideoInterval, read_pairs, write_pairs
from train.data.tower_features import feature_store
from train.experiments.joint_heads import JointLoss, train_jointly
from train.experiments.prove_retrieval import head_recipe, order_accuracy, report, timed
from train.tasks.adapters import add_lora, merge_lora
from train.tasks.backbone import load_backbone, towers
from train.tasks.contrastive import ContrastiveLoss
from train.tasks.distillation import load_teacher
from train.tasks.heads import build_retrieval_model
from train.tasks.retrieval import encode_pairs, evaluate, mined, parameter_groups, set_trained
from videollm.errors import ConfigError, DataError
from videollm.retrieval import model as directory
from videollm.retrieval.inputs import normalise
from videollm.retrieval.model import HEADS

LAUNCHED = [name for name in RETRIEVAL if name.endswith("b32")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("retrieval")
    tiny.make(made)
    return made


@pytest.mark.parametrize("name", RETRIEVAL)
def test_every_recipe_builds_and_takes_a_step(folder: Path, tmp_path: Path, name: str):
    """Its settings on the tiny CLIP; a recipe with a teacher gets one."""
    kept = tiny.recipe(folder)
    changes = {"backbone": kept.network.backbone, "data": kept.dataset.data, "cache": kept.dataset.cache, "fps": 4.0}
    sizes = {"batch_size": 8, "epochs": 1, "layers": 1, "depth": 1, "output": str(tmp_path / "out"), "bf16": False}
    recipe = RETRIEVAL[name].changed(**changes, **sizes)
    if recipe.objective.teachers:
        teacher = RETRIEVAL["xclip_msrvtt_b32"].changed(**changes, **sizes)
        directory.save(build_retrieval_model(teacher), tmp_path / "teacher", "")
        recipe = recipe.changed(teachers=str(tmp_path / "teacher"))
    before = {n: p.clone() for n, p in build_retrieval_model(recipe).named_parameters()}
    retrieval.train(recipe)
    after = dict(directory.load(tmp_path / "out").named_parameters())
    assert before.keys() == after.keys()
    frozen = recipe.network.visual == "freeze"
    assert any(not torch.equal(p, before[n]) for n, p in after.items())
    assert all(torch.equal(p, before[n]) for n, p in after.items() if frozen and n.startswith("visual."))


def test_published_settings():
    """As the official commands state them."""
    clip4clip, xclip, stan = (RETRIEVAL[f"{n}_msrvtt_b32"] for n in ("clip4clip", "xclip", "stan"))
    fit = clip4clip.optimizer
    assert (fit.learning_rate, fit.backbone_learning_rate, clip4clip.dataset.batch_size) == (1e-4, 1e-7, 128)
    assert (fit.optimizer, fit.beta2, fit.epsilon, fit.weight_decay) == ("bertadam", 0.98, 1e-6, 0.2)
    assert (xclip.dataset.batch_size, xclip.dataset.epochs, xclip.network.head) == (300, 5, "xclip")
    fit = stan.optimizer
    assert (fit.backbone_learning_rate, fit.learning_rate, fit.max_grad_norm) == (2e-6, 2e-5, 5.0)
    assert stan.objective.sums and stan.network.scale == "fixed"
    assert RETRIEVAL["teachclip_msrvtt_b32"].optimizer.attention_learning_rate == 1e-3
    assert {RETRIEVAL[n].network.head for n in LAUNCHED} <= HEADS.keys()


def test_help_names_every_field_and_print_config_is_the_recipe(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        retrieval.main(["--help"])
    told = capsys.readouterr().out
    assert stopped.value.code == 0
    assert all(f"--{f.name.replace('_', '-')} " in told for _, f, _ in leaves(RETRIEVAL["world"]))
    with pytest.raises(SystemExit) as stopped:
        retrieval.main(["world", "--print-config", "--epochs", "2.5", "--mine", "true"])
    assert stopped.value.code == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown.pop("deepspeed") is None
    assert shown == asdict(RETRIEVAL["world"].changed(epochs=2.5, mine=True))


@pytest.mark.parametrize(
    ("main", "arguments", "says"),
    [
        (retrieval.main, ["world", "--head", "none"], "no head 'none'"),
        (retrieval.main, ["world", "--mine", "yes"], "neither true nor false"),
        (retrieval.main, ["world", "--teachers", "runs/x"], "head 'mean'"),
        (retrieval.main, ["world", "--head", "attentive", "--teachers", "runs/x"], "set false_captions to false"),
        (retrieval.main, ["world", "--chunk", "4", "--zero-stage", "1"], "exclude each other"),
        (retrieval.main, ["world"], "backbone is empty"),
        (retrieval.main, ["world", "--backbone", "local-dir:nowhere"], "no weights for 'local-dir:nowhere'"),
        (clip.main, ["clip_world", "--patch", "7"], "not a multiple of patch 7"),
        (clip.main, ["clip_world", "--tower", "nowhere"], "tower nowhere has no projector.safetensors"),
        (clip.main, ["clip_world", "--data", "nowhere.csv"], "nowhere.csv is not a file"),
    ],
)
def test_refusals_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], main, arguments: list[str], says: str
):
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--output", str(tmp_path)])
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


def command(folder: str, output: str, changes: dict[str, str]) -> None:
    """The command itself, in a process of its own."""
    recipe = tiny.recipe(Path(folder))
    options = {"data": recipe.dataset.data, "eval-data": recipe.dataset.eval_data}
    options |= {"cache": recipe.dataset.cache, "backbone": recipe.network.backbone}
    options |= {"output": output, **changes}
    retrieval.main(["debug", *(word for name, value in options.items() for word in (f"--{name}", value))])


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """Two epochs of 4 steps on two heads' worth of parameters."""
    output = folder / "whole"
    changes = {"head": "transformer", "epochs": "2", "save-every": "5"}
    processes.run(command, str(folder), str(output), changes, log=folder / "whole.log")
    return output


def test_a_run_leaves_a_model_with_its_metrics(folder: Path, trained: Path):
    model = directory.load(trained)
    assert model.config.head.kind == "transformer"
    card = (trained / "card.md").read_text()
    assert "text_to_video_R1" in card and "| head | transformer |" in card
    log = (folder / "whole-0.log").read_text()
    assert log.count("'text_to_video_R1'") == 1  # after the first epoch; the card has the last
    recipe = tiny.recipe(folder)
    again = evaluate(model, PairBatches(read_pairs(Path(recipe.dataset.eval_data)), recipe, towers(model)[0], 0))
    assert f"{again['text_to_video_MnR']:.4g}" in card


def test_a_killed_run_goes_on_to_the_same_weights(folder: Path, trained: Path, tmp_path: Path):
    changes = {"head": "transformer", "epochs": "2", "save-every": "3"}
    killed = processes.start(command, str(folder), str(tmp_path / "out"), changes, log=tmp_path / "killed.log")
    processes.kill_once(tmp_path / "out/checkpoint-6", killed)  # begun, most likely torn
    changes["resume"] = "last"
    processes.run(command, str(folder), str(tmp_path / "out"), changes, log=tmp_path / "again.log")
    a, b = (load_file(d / "model.safetensors") for d in (trained, tmp_path / "out"))
    assert a.keys() == b.keys()
    assert all(torch.allclose(a[k], b[k], atol=1e-6) for k in a)


def test_a_checkpoint_of_other_parameters_is_refused(folder: Path, trained: Path):
    recipe = tiny.recipe(folder, head="lstm", resume=str(trained / "checkpoint-5"))
    with pytest.raises(ConfigError, match="do not train the same parameters"):
        retrieval.train(recipe)


@pytest.mark.parametrize("changes", [{}, {"chunk": "1"}, {"zero-stage": "1"}])
def test_two_ranks_train_like_one(folder: Path, trained: Path, tmp_path: Path, changes: dict[str, str]):
    changes = {"head": "transformer", "epochs": "2", **changes}
    processes.run(command, str(folder), str(tmp_path / "two"), changes, ranks=2, log=tmp_path / "two.log")
    a, b = (load_file(d / "model.safetensors") for d in (trained, tmp_path / "two"))
    moved = load_file(trained / "checkpoint-5" / "trained.safetensors")
    assert any(float((a[k.removeprefix("model.")] - v).abs().max()) > 1e-4 for k, v in moved.items())
    assert all(torch.allclose(a[k], b[k], atol=2e-3) for k in a)


def test_a_frozen_tower_gives_what_it_gives_from_pixels(folder: Path, tmp_path: Path):
    frozen, live = (tiny.recipe(folder, visual=v, head="stan", cache=str(tmp_path)) for v in ("freeze", "train"))
    model, pairs = build_retrieval_model(frozen).eval(), read_pairs(folder / "pairs.jsonl")
    scores = []
    for recipe in (frozen, live):
        text, video = encode_pairs(model, PairBatches(pairs, recipe, towers(model)[0], 1))
        scores.append(model.head.score(text, video))
    assert torch.allclose(*scores, atol=2e-3)  # hidden layers are kept in bfloat16
    assert not torch.allclose(scores[0][0], scores[0][1], atol=1e-4)


def test_frames_and_features_are_made_once(folder: Path, tmp_path: Path):
    parts = [p.part for p in read_pairs(folder / "pairs.jsonl")][:3]
    vision, _ = load_backbone(f"local-dir:{folder / 'clip'}")
    frames = frame_store([*parts, parts[0]], fps=None, max_frames=8, size=32, cache=tmp_path)
    assert frames.pixels.shape == (3, 8, 3, 32, 32)
    store = feature_store(frames, vision, 1, tmp_path)
    direct = vision(normalise(torch.from_numpy(frames.pixels[1:2].copy())), torch.ones(1, 8, dtype=torch.bool), 1)
    assert np.allclose(store.embed[1], direct.embed[0].detach(), atol=1e-5)
    there = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    assert len(there) == 4
    feature_store(frame_store(parts, fps=None, max_frames=8, size=32, cache=tmp_path), vision, 1, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == there


@pytest.mark.parametrize("how", ["lora", "prompt"])
def test_adapters_and_prompts_leave_the_trunk_and_are_in_the_result(folder: Path, tmp_path: Path, how: str):
    recipe = tiny.recipe(folder, visual=how, text=how, output=str(tmp_path / "out"), backbone_learning_rate=1e-2)
    model = build_retrieval_model(recipe)
    set_trained(model, recipe)
    trained = {n for n, p in model.named_parameters() if p.requires_grad} - {"logit_scale"}
    assert trained and all("lora_" in n if how == "lora" else n.endswith("prompts") for n in trained)
    assert len(trained) == (12 * 2 if how == "lora" else 2) and len(parameter_groups(model, recipe)) == 1
    found = retrieval.train(recipe)
    loaded = directory.load(tmp_path / "out")
    vision, _ = load_backbone(recipe.network.backbone)
    differs = [n for n, p in vision.named_parameters() if not torch.equal(p, loaded.state_dict()[f"visual.{n}"])]
    assert all(layer in name for name in differs for layer in ["weight"]) if how == "lora" else not differs
    assert bool(differs) == (how == "lora")
    again = evaluate(loaded, PairBatches(read_pairs(Path(recipe.dataset.eval_data)), recipe, towers(loaded)[0], 0))
    assert again["text_to_video_MnR"] == pytest.approx(found["text_to_video_MnR"], abs=0.51)


def test_merged_adapters_compute_what_they_did():
    model = tiny.model("mean").eval()
    batch = tiny.batch(2)
    add_lora(model.text, 4)
    with torch.no_grad():
        for name, parameter in model.text.named_parameters():
            if "lora_" in name:
                parameter.normal_()
    names = dict(tiny.model("mean").named_parameters()).keys()
    before = model.encode_text(batch["ids"], batch["text_mask"]).embed
    merge_lora(model.text)
    assert dict(model.named_parameters()).keys() == names
    assert torch.allclose(model.encode_text(batch["ids"], batch["text_mask"]).embed, before, atol=1e-4)


def test_reward_starts_from_a_trained_model(folder: Path, trained: Path, tmp_path: Path):
    changes = {"backbone": "", "init": str(trained), "objective": "recall", "output": str(tmp_path / "out")}
    retrieval.train(tiny.recipe(folder, **changes))
    assert directory.load(tmp_path / "out").config == directory.load(trained).config


def test_a_teacher_of_another_tower_is_refused(folder: Path, tmp_path: Path):
    directory.save(tiny.model("xclip"), tmp_path / "teacher", "")
    model = build_retrieval_model(
        recipe := tiny.recipe(folder, head="attentive", visual="freeze", teachers=str(tmp_path / "teacher"))
    )
    with pytest.raises(ConfigError, match="another visual tower"):
        load_teacher(tmp_path / "teacher", recipe, model)


def test_mining_keeps_groups_together(folder: Path):
    recipe = tiny.recipe(folder)
    model, pairs = build_retrieval_model(recipe), read_pairs(folder / "pairs.jsonl")
    order = GroupedSampler([p.group for p in pairs], 0)
    rows = mined(model, PairBatches(pairs, recipe, towers(model)[0], 0), order, 1)
    assert sorted(rows) == list(range(16))
    assert all(pairs[a].group == pairs[b].group for a, b in zip(rows[::2], rows[1::2], strict=True))
    assert rows != order.shuffled(1)


def test_groups_come_one_after_the_other_in_a_new_order_each_epoch():
    groups = [*"abcabcabc", ""]
    sampler = GroupedSampler(groups, 0)
    orders = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        orders.append([*sampler])
    assert orders[0] != orders[1] and [sorted(o) for o in orders] == [list(range(10))] * 2
    names = "".join(groups[i] or "-" for i in orders[0])
    assert all(name * 3 in names for name in "abc")


def test_the_three_formats_of_pairs_say_the_same(tmp_path: Path):
    rows = [("a.mp4", "A red star.", 0.5, 2.0), ("b.mp4", "A blue cup, perhaps.", None, None)]
    expected = [CaptionPair(VideoInterval(tmp_path / v, s, e), c) for v, c, s, e in rows]
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("video", "caption", "start", "end"), *rows])
    write_pairs(tmp_path / "pairs.jsonl", expected)
    sample = {"language": "en", "answer_times": [], "task": "caption"}
    sample["provenance"] = dict.fromkeys(("model", "prompt_sha", "seed")) | {
        "source": "csv",
        "generator": "plain",
        "created": "2026-01-31T12:00:00+00:00",
    }
    with (tmp_path / "samples.jsonl").open("w") as file:
        for i, (video, caption, start, end) in enumerate(rows):
            messages = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": caption}]
            whole = {"id": str(i), "video": video, "start": start, "end": end, "messages": messages, **sample}
            file.write(json.dumps(whole) + "\n")
    for name in ("pairs.csv", "pairs.jsonl", "samples.jsonl"):
        assert read_pairs(tmp_path / name) == expected, name


def test_false_captions_and_groups_survive_their_file(tmp_path: Path):
    pairs = [CaptionPair(VideoInterval(tmp_path / "a.mp4"), "A cup.", "g", ("A star.", "No cup."))]
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    assert read_pairs(tmp_path / "pairs.jsonl") == pairs


@pytest.mark.parametrize(
    ("text", "says"), [("video,text\na.mp4,x\n", "row 2"), ("video,caption\n,x\n", "row 2"), ("", "no caption")]
)
def test_pairs_that_are_wrong_name_their_row(tmp_path: Path, text: str, says: str):
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(DataError, match=says):
        read_pairs(tmp_path / "pairs.csv")


def test_false_captions_are_asked_for_where_there_are_none(folder: Path):
    recipe = tiny.recipe(folder, false_captions=True)
    pairs = [replace(p, false=()) for p in read_pairs(folder / "pairs.jsonl")]
    with pytest.raises(ConfigError, match="no false caption"):
        PairBatches(pairs, recipe, towers(build_retrieval_model(recipe))[0], 0)([0])


@pytest.mark.parametrize("false", [False, True])
def test_heads_learn_together_as_they_would_alone_on_the_same_text(false: bool):
    """The loss is the mean, and a head's gradients are its own, divided by the number of heads."""
    mean, lstm = tiny.model("mean"), tiny.model("lstm")
    batch = tiny.batch(4, false=false)
    alone = [ContrastiveLoss(m)(batch)["loss"] for m in (mean, lstm)]
    alone[1].backward()
    expected = {n: p.grad.clone() for n, p in lstm.head.named_parameters() if p.grad is not None}
    together = JointLoss([mean, tiny.model("lstm")])
    loss = together(batch)["loss"]
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(sum(x.detach() for x in alone)) / 2, abs=1e-5)
    assert together.models[1].text is mean.text and expected
    for name, parameter in together.models[1].head.named_parameters():
        assert parameter.grad is not None and torch.allclose(2 * parameter.grad, expected[name], atol=1e-5)


def test_what_learned_together_shares_its_towers(folder: Path, tmp_path: Path):
    kinds = ("mean", "lstm", "xclip")
    recipes = {k: tiny.recipe(folder, head=k, visual="freeze", output=str(tmp_path / k)) for k in kinds}
    train_jointly(recipes)
    first, *others = (dict(directory.load(tmp_path / k).named_parameters()) for k in kinds)
    before = dict(build_retrieval_model(recipes["mean"]).named_parameters())
    towers = [n for n in first if n.startswith(("text.", "visual."))]
    assert all(torch.equal(first[n], other[n]) for other in others for n in towers)
    assert {n.split(".")[0] for n in towers if not torch.equal(first[n], before[n])} == {"text"}
    with pytest.raises(ConfigError, match="frozen tower"):
        train_jointly({"mean": tiny.recipe(folder)})


def test_positions_start_as_wide_as_asked_or_as_the_text_towers(folder: Path):
    wide, published = (build_retrieval_model(tiny.recipe(folder, head="transformer", positions=p)) for p in (1.0, 0.0))
    positions = [m.head.get_parameter("positions").detach() for m in (wide, published)]
    assert float(positions[0].std()) == pytest.approx(1, abs=0.1)
    assert torch.equal(positions[1], published.text.get_parameter("positional_embedding"))


def test_bags_of_frames_are_at_chance_by_construction():
    """Equal scores of the two clips of a pair count half, right and wrong ones one and zero."""
    known = [{"id": f"order-{i:06d}"} for i in range(4)]
    scores = torch.tensor([[0.5, 0.5, 0, 0], [0.1, 0.1, 0, 0], [0, 0, 0.9, 0.2], [0, 0, 0.9, 0.2]])
    assert order_accuracy(scores, known) == {"order": 0.5, "reversed": 0.5, "exchanged": 0.5}
    scores[3] = torch.tensor([0, 0, 0.1, 0.2])
    assert order_accuracy(scores, known) == {"order": 0.75, "reversed": 0.5, "exchanged": 1.0}


def test_what_was_stopped_goes_on_and_adds_up_its_costs(tmp_path: Path):
    assert head_recipe(tmp_path, "mean", "clip", {}).checkpoints.resume == "last"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), timed(tmp_path, "step"):
            until = time.process_time() + 0.6
            while time.process_time() < until:
                pass
            raise KeyboardInterrupt
    costs = json.loads((tmp_path / "costs.json").read_text())
    assert 2 <= costs["step"]["cpu_seconds"] <= 4 and costs["step"]["seconds"] >= costs["step"]["cpu_seconds"] - 1


def test_the_report_is_a_table_and_a_picture(tmp_path: Path):
    names = ("order", "reversed", "exchanged", "direction", "attribute", "score_ms")
    found = dict.fromkeys(names, 0.5) | {f"{s}_R1": 12.0 for s in ("test", "unseen", "style", "perturbed", "long_tail")}
    (tmp_path / "recognised/stan").mkdir(parents=True)
    told = {"events": 0.5, "both": 0.25, "moves": 0.125, "moving": 8}
    (tmp_path / "recognised/stan/found.json").write_text(json.dumps(told))
    report(tmp_path, {"mean": found, "stan": found})
    tables = [table.splitlines() for table in (tmp_path / "table.md").read_text().split("\n\n")]
    assert [len(table) for table in tables] == [4, 3] and tables[1][2] == "| stan | 0.50 | 0.25 | 0.12 |"
    assert all({line.count("|") for line in table} == {table[0].count("|")} for table in tables)
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
