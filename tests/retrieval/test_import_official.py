"""`videollm import-official` converts published checkpoint files, and only tensors are read from them."""

import argparse
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.retrieval.test_official import pairs, parity
from videollm.cli import main
from videollm.errors import CheckpointError
from videollm.retrieval.model import CONFIG_FILE, WEIGHTS_FILE, load
from videollm.retrieval.published import SYSTEMS, OfficialModel
from videollm.retrieval.published import load as load_official


@torch.inference_mode()
@pytest.mark.parametrize("system", ["CLIP4Clip/tightTransf", "X-CLIP/seqTransf", "TeachCLIP/student"])
def test_a_converted_checkpoint_scores_as_the_official_one(system: str, tmp_path: Path, capsys):
    arrays, config = parity(system)
    file, out = tmp_path / "pytorch_model.bin.4", tmp_path / "ours"
    torch.save({n: v.half() for n, v in arrays["state"].items()}, file)
    assert main(["import-official", str(file), "--system", system.split("/")[0], "--out", str(out), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["head"] == load(out).config.head.kind
    assert made["parameters"] == sum(p.numel() for p in load(out).parameters())
    assert made["sha256"] in (out / "card.md").read_text()
    ours = OfficialModel(load(out), SYSTEMS[system.split("/")[0]])
    expected = load_official(system, arrays["state"], config)
    assert torch.equal(ours.similarity(arrays["input"]), expected.similarity(arrays["input"]))


@torch.inference_mode()
@pytest.mark.parametrize(
    ("system", "prefix", "key"), [("STAN/stan", "", "state_dict"), ("VideoCLIP/mmfusion_separate", "mmmodel.", "model")]
)
def test_wrappers_of_published_files(system: str, prefix: str, key: str, tmp_path: Path):
    """mmengine and fairseq keep the state dict inside; shared parameters are written once. Numbers of heads are the
    published ones, a head each 64 of the width, so only shapes and names are compared."""
    arrays, config = parity(system)
    file, out = tmp_path / "epoch_5.pth", tmp_path / "ours"
    torch.save({key: {prefix + n: v for n, v in arrays["state"].items()}, "epoch": 5}, file)
    assert main(["import-official", str(file), "--system", system, "--out", str(out)]) == 0
    expected = load_official(system, arrays["state"], config).model.state_dict()
    found = load(out).state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@torch.inference_mode()
def test_safetensors_and_old_names(tmp_path: Path):
    arrays, config = parity("STAN/stan")
    file, out = tmp_path / "stan.safetensors", tmp_path / "ours"
    save_file({n.replace("STAN_", "timesFPN_"): v.contiguous() for n, v in arrays["state"].items()}, file)
    assert main(["import-official", str(file), "--system", "STAN/mugstan", "--out", str(out)]) == 0
    assert load(out).config.head.kind == "mug"
    stan = load_official("STAN/stan", {n.replace("STAN_", "timesFPN_"): v for n, v in arrays["state"].items()}, config)
    expected = load_official("STAN/stan", arrays["state"], config)
    assert torch.equal(stan.similarity(pairs(arrays["input"])), expected.similarity(pairs(arrays["input"])))


class Sly:
    def __reduce__(self):
        return (print, ("code from a pickle ran",))


def test_bad_files_are_one_line_and_run_nothing(tmp_path: Path, capsys):
    out = tmp_path / "ours"

    def fails(file: Path, system: str = "CLIP4Clip") -> str:
        assert main(["import-official", str(file), "--system", system, "--out", str(out)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert not out.exists()
        return captured.err

    assert "is not a file" in fails(tmp_path / "none.bin")
    for name, content in {"sly": Sly(), "namespace": {"model": {}, "args": argparse.Namespace(lr=1)}}.items():
        torch.save(content, tmp_path / name)
        assert "cannot be read as a checkpoint of tensors" in fails(tmp_path / name)
    (tmp_path / "text").write_text("hello")
    assert "is not a file of torch.save" in fails(tmp_path / "text")
    whole = tmp_path / "whole"
    torch.save({"clip.visual.conv1.weight": torch.zeros(8, 3, 4, 4)}, whole)
    (tmp_path / "cut").write_bytes(whole.read_bytes()[:500])
    assert "cannot be read" in fails(tmp_path / "cut")
    torch.save({"clip.visual.conv1.weight": 3}, tmp_path / "number")
    assert "holds no state dict" in fails(tmp_path / "number")
    torch.save({"clip.visual.conv1.weight": torch.zeros(8, 3, 4, 4)}, tmp_path / "short")
    assert "no tensor clip.visual.positional_embedding" in fails(tmp_path / "short")
    assert "no system 'TS2-Net': choose from" in fails(tmp_path / "short", "TS2-Net")


def test_a_changed_directory_is_an_error(tmp_path: Path):
    arrays, _ = parity("CLIP4Clip/meanP")
    torch.save(arrays["state"], tmp_path / "file")
    out = tmp_path / "ours"
    assert main(["import-official", str(tmp_path / "file"), "--system", "CLIP4Clip", "--out", str(out)]) == 0
    config = json.loads((out / CONFIG_FILE).read_text())
    config["head"]["kind"] = "lstm"
    (out / CONFIG_FILE).write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"missing: head\.lstm\.bias_hh_l0"):
        load(out)
    (out / WEIGHTS_FILE).unlink()
    with pytest.raises(CheckpointError, match=f"has no {WEIGHTS_FILE}"):
        load(out)
