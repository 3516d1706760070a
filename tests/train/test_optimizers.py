"""Muon beside AdamW: which parameters it takes, what it computes, and its state in checkpoints."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from train.configs.stage2 import DEBUG_STAGE2
from train.core.optimizers import MuonAdamW, muon
from videollm.errors import ConfigError


def _steps(module: nn.Module, optimizer: torch.optim.Optimizer, count: int, seed: int = 0) -> None:
    draw = torch.Generator().manual_seed(seed)
    for _ in range(count):
        for p in module.parameters():
            p.grad = torch.randn(p.shape, generator=draw)
        optimizer.step()


def _module() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(5, 6))


def test_a_step_is_that_of_torch_with_convolutions_as_matrices():
    ours, theirs = _module(), _module()
    conv, linear = theirs
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None and isinstance(linear, nn.Linear)
    _steps(ours, muon(ours, 0.1, 0.2), 3)
    kernels = nn.Parameter(conv.weight.detach().flatten(1))
    matrices = torch.optim.Muon([kernels, linear.weight], lr=0.1, weight_decay=0.2, adjust_lr_fn="match_rms_adamw")
    others = torch.optim.AdamW([conv.bias, linear.bias], lr=0.1, weight_decay=0.0)
    draw = torch.Generator().manual_seed(0)
    for _ in range(3):
        for p in theirs.parameters():
            p.grad = torch.randn(p.shape, generator=draw)
        assert conv.weight.grad is not None
        kernels.grad = conv.weight.grad.flatten(1)
        matrices.step()
        others.step()
    assert torch.equal(next(ours.parameters()).flatten(1), kernels)
    for ours_p, theirs_p in zip(list(ours.parameters())[1:], list(theirs.parameters())[1:], strict=True):
        assert torch.equal(ours_p, theirs_p)


def test_words_and_frozen_weights_are_not_matrices():
    sizes: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=11, tie_word_embeddings=False, **sizes))
    model.model.layers[0].mlp.requires_grad_(False)
    groups = muon(nn.ModuleList([model]), 1e-3, 0.0).param_groups
    assert [len(group["params"]) for group in groups] == [4, 5]  # projections of attention; three norms and two tables
    assert {tuple(p.shape) for p in groups[1]["params"]} == {(11, 8), (8,)}


def test_training_goes_on_from_a_saved_state_exactly():
    whole, first = _module(), _module()
    _steps(whole, optimizer := muon(whole, 0.1, 0.2), 2)
    for group in optimizer.param_groups:
        group["lr"] = 0.05  # as a schedule does
    _steps(whole, optimizer, 2, seed=1)

    _steps(first, optimizer := muon(first, 0.1, 0.2), 2)
    second = _module()
    second.load_state_dict(first.state_dict())
    again = muon(second, 0.1, 0.2)
    again.load_state_dict(optimizer.state_dict())
    for group in again.param_groups:
        group["lr"] = 0.05
    _steps(second, again, 2, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


def test_a_parameter_without_a_gradient_stays():
    p, q = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(2))
    optimizer = MuonAdamW([p], [q], 0.1, 0.5)
    q.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(p, torch.ones(2, 3)) and (q < 1).all()


def test_matrices_alone_are_trained_too():
    linear = nn.Linear(3, 2, bias=False)
    optimizer = muon(linear, 0.1, 0.0)
    assert [len(group["params"]) for group in optimizer.param_groups] == [1]
    before = linear.weight.detach().clone()
    _steps(linear, optimizer, 1)
    assert not torch.equal(linear.weight, before)


def test_zero_is_refused():
    with pytest.raises(ConfigError, match="zero_stage is 2"):
        DEBUG_STAGE2.changed(optimizer="muon", zero_stage=2)
