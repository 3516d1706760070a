"""Heads that read the truth of rendered clips from frame tokens, from the tokens of the motion stem and from the tokens
of the temporal module, with their losses.

Shapes: B clips, T frames, N patches, M moments, P places, Q query tokens, D, W and H the widths of the three.
"""

import torch
import torch.nn.functional as F
from torch import nn

from train.data.dense_truth import (
    FLOW_SCALE,
    FRAMES,
    KIND_COUNT,
    MOST,
    ROLES,
    SHOWN_LOOKS,
    EventTruth,
    FrameTruth,
)
from videollm.models.world_tower import CELLS, COLOUR_COUNT, SHAPE_COUNT, TOKEN_PARTS

Measures = dict[str, torch.Tensor]
_SHAPES, _COLOURS = (1, 3, 5, 7), (2, 4, 6, 8)  # where `EventTruth.now` has those of its four things
_STILL = 1e-3  # of scaled flow; below it, hardly anything moves
_LEAST = 1e-6  # probability, so that its logarithm is finite
_CONTRAST = 0.1  # of backgrounds, as a share of full white


def frame_loss(tokens: torch.Tensor, pixels: torch.Tensor, truth: FrameTruth) -> tuple[torch.Tensor, Measures]:
    """Returns the loss of the tower's tokens, which say what each patch shows, and how much is right.

    tokens (B,T,N,D); pixels (B,T,3,S*S) from 0 to 255; truth (B,T,G,G). The coarse pixels hold the background, which
    only the camera moves; without them a tower forgets it.
    """
    shape, colour, place, turn, flow, coarse = tokens[..., : sum(TOKEN_PARTS)].split(TOKEN_PARTS, -1)
    true = {name: value.flatten(2, 3) for name, value in vars(truth).items()}
    is_there = true["shape"] > 0
    true_flow = true["flow"] * flow.new_tensor(FLOW_SCALE)
    log_shape, log_colour = (probabilities.clamp(min=_LEAST).log() for probabilities in (shape, colour))
    shape_loss, colour_loss = apart(log_shape, log_colour, true["shape"], true["colour"])
    losses = [
        balanced(shape_loss, true["shape"]),
        balanced(colour_loss, true["colour"]),
        F.smooth_l1_loss(place[is_there], true["place"][is_there]),
        F.smooth_l1_loss(turn[is_there], true["turn"][is_there]),
        F.smooth_l1_loss(flow[is_there], true_flow[is_there]),
        F.smooth_l1_loss(flow[~is_there], true_flow[~is_there]),
        F.smooth_l1_loss(coarse, _coarse(pixels, truth.shape.shape[-1])),
    ]
    away = (place - true["place"])[is_there][:, :2].norm(dim=-1)
    return torch.stack(losses).sum(), {
        "shape": right(shape, true["shape"]),
        "colour": right(colour, true["colour"]),
        "place": away.mean() / truth.shape.shape[-1],
        "flow": explained(flow[is_there], true_flow[is_there]),
        "background flow": explained(flow[~is_there], true_flow[~is_there]),
        "pixels": losses[-1],
    }


def _coarse(pixels: torch.Tensor, grid: int) -> torch.Tensor:
    """Returns the pixels of each patch, reduced, as (B,T,N,48), at unit scale for backgrounds."""
    side = int(pixels.shape[-1] ** 0.5)
    images = pixels.reshape(-1, 3, side, side).float() / 255
    small = F.adaptive_avg_pool2d(images, grid * CELLS)
    small = (small - small.mean((2, 3), keepdim=True)) / _CONTRAST
    return F.pixel_unshuffle(small, CELLS).flatten(2).mT.unflatten(0, pixels.shape[:2])


def explained(given: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Returns the share of the variance around 0 that is explained; NaN where nothing moves."""
    variance = true.square().mean()
    return torch.where(variance > _STILL, 1 - (given - true).square().mean() / variance, torch.nan)


class EventHeads(nn.Module):
    """What happens at each place and moment."""

    def __init__(self, width: int):
        super().__init__()
        self.sizes = (KIND_COUNT, ROLES, SHAPE_COUNT, COLOUR_COUNT, 2)
        self.read = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, sum(self.sizes)))

    def forward(self, tokens: torch.Tensor, truth: EventTruth) -> tuple[torch.Tensor, Measures]:
        """Returns the loss, and how much is right. tokens (B,M,P,W)."""
        kind, role, shape, colour, span = self.read(tokens).split(self.sizes, -1)
        targets = [x.flatten(2, 3) for x in (truth.kind, truth.role, truth.shape, truth.colour, truth.span)]
        happens = targets[0] > 0
        each_place = (each(kind, targets[0]), each(role, targets[1]), *apart(shape, colour, targets[2], targets[3]))
        losses = [balanced(loss, true) for loss, true in zip(each_place, targets[:4], strict=True)]
        losses.append(F.smooth_l1_loss(span[happens], targets[4][happens]))
        return torch.stack(losses).sum(), {
            "kind": right(kind, targets[0]),
            "camera": right(kind, targets[0].where(targets[1] == 0, 0)),
            "moment shape": right(shape, targets[2]),
            "moment colour": right(colour, targets[3]),
        }


class MomentHeads(nn.Module):
    """What each moment shows and what happens then, from the tokens of the temporal module, which are in order of time.

    Token k of Q is about the k-th part of the moments.
    """

    def __init__(self, width: int):
        super().__init__()
        things = (SHAPE_COUNT, COLOUR_COUNT)
        self.sizes = (KIND_COUNT, *things * 4, MOST + 1, *(FRAMES + 1,) * 3)
        self.read = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, sum(self.sizes)))

    def forward(self, tokens: torch.Tensor, truth: EventTruth) -> tuple[torch.Tensor, Measures]:
        """Returns the loss, and how much is right. tokens (B,Q,H)."""
        moments = F.interpolate(tokens.mT, truth.now.shape[1]).mT
        names = self.read(moments).split(self.sizes, -1)
        happens = truth.now[..., 0] > 0
        parts = truth.now.unbind(-1)
        losses = [each(names[k], parts[k]).mean() for k in range(len(parts)) if k not in (*_SHAPES, *_COLOURS)]
        for k, m in zip(_SHAPES, _COLOURS, strict=True):
            losses += [x.mean() for x in apart(names[k], names[m], parts[k], parts[m])]
        is_right = torch.stack([x.argmax(-1) for x in names], -1) == truth.now
        return torch.stack(losses).sum(), {
            "event now": is_right[happens][:, :5].all(-1).float().mean(),
            "things now": is_right[..., 5:10].all(-1).float().mean(),
            "start now": is_right[happens][:, 10].float().mean(),
            "length now": is_right[happens][:, 12].float().mean(),
        }


class ReadoutHeads(nn.Module):
    """Names the first and the last event of a clip: a query for each attends to the tokens of the temporal module."""

    def __init__(self, width: int):
        super().__init__()
        self.sizes = (KIND_COUNT, SHAPE_COUNT, COLOUR_COUNT, 2)
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.randn(2, width))
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.read = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, sum(self.sizes)))

    def named(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns logits of kind, shape and colour, and start and end in seconds, each (B,2,...), of tokens (B,Q,H)."""
        tokens = self.norm(tokens)
        read, _ = self.attention(self.queries.expand(len(tokens), -1, -1), tokens, tokens, need_weights=False)
        return self.read(read).split(self.sizes, -1)

    def forward(self, tokens: torch.Tensor, truth: EventTruth) -> tuple[torch.Tensor, Measures]:
        """Returns the loss, and how much is right."""
        *names, when = self.named(tokens)
        true_kind, *true_looks = truth.named.unbind(-1)
        losses = [each(names[0], true_kind).mean(), *(x.mean() for x in apart(*names[1:], *true_looks))]
        losses.append(F.smooth_l1_loss(when, truth.when))
        is_right = named_right(names, truth.named)
        return torch.stack(losses).sum(), {
            "event kind": is_right[..., 0].float().mean(),
            "event": is_right.all(-1).float().mean(),
            "both events": is_right.all(-1).all(-1).float().mean(),
        }


def named_right(names: list[torch.Tensor], named: torch.Tensor) -> torch.Tensor:
    """Returns bool (B,2,3): whether kind, shape and colour of both events are right."""
    return torch.stack([x.argmax(-1) for x in names], -1) == named


def each(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Returns the cross-entropy of each place, of the shape of `target`."""
    return F.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="none").view_as(target)


def apart(
    shape: torch.Tensor, colour: torch.Tensor, true_shape: torch.Tensor, true_colour: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the cross-entropy of each place for shapes and for colours, from their logits.

    The shapes that training never shows in the true colour are left out of the softmax, and so are the colours that it
    never shows with the true shape. Otherwise the absence of a pair would count as evidence against it, and a model
    would learn which shapes a colour excludes instead of what a shape looks like.
    """
    shown = SHOWN_LOOKS.to(shape.device)
    return (
        each(shape.masked_fill(~shown.T[true_colour], -torch.inf), true_shape),
        each(colour.masked_fill(~shown[true_shape], -torch.inf), true_colour),
    )


def balanced(losses: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Returns the mean loss in which places with something (target above 0) weigh as much as all others."""
    something = target > 0
    return mean(losses[something]) + mean(losses[~something])


def right(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Returns the share of right answers where there is something; NaN where there is nothing."""
    something = target > 0
    return (logits.argmax(-1) == target)[something].float().mean()


def mean(values: torch.Tensor) -> torch.Tensor:
    """Returns the mean, and 0 for no values."""
    return values.sum() / max(len(values), 1)
