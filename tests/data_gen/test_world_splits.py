"""What the splits promise about the combinations, styles and lengths in them."""

from collections import Counter
from itertools import combinations

import pytest

from data_gen.world.clip import WorldClip
from data_gen.world.config import WorldConfig
from data_gen.world.scene import draw_clips
from data_gen.world.splits import OTHER_STYLES, PERTURBATIONS, SPLITS, TRAINED_STYLES
from data_gen.world.vocabulary import COLOURS, FAMILY_OF, KINDS, RARE_COLOURS, RARE_KINDS, RARE_SHAPES
from videollm.datasets.world_annotation import SHAPES

CONFIG = WorldConfig()


def clips(split: str, count: int) -> list[WorldClip]:
    return [clip for index in range(count) for clip in draw_clips(CONFIG, split, index)]


def looks(clip: WorldClip) -> set[tuple[str, str]]:
    return {(thing.shape, colour) for thing in clip.things for colour in (thing.colour, thing.next_colour) if colour}


def pairs_of_families(clip: WorldClip) -> set[frozenset[int]]:
    return {frozenset(pair) for pair in combinations({FAMILY_OF[event.kind] for event in clip.events}, 2)}


def is_rare(clip: WorldClip) -> bool:
    rare_look = any(shape in RARE_SHAPES or colour in RARE_COLOURS for shape, colour in looks(clip))
    return rare_look or any(event.kind in RARE_KINDS for event in clip.events)


@pytest.fixture(scope="module")
def trained() -> list[WorldClip]:
    return clips("train", 400)


@pytest.fixture(scope="module")
def unseen() -> list[WorldClip]:
    return clips("unseen", 100)


def test_training_never_holds_the_unseen_looks(trained: list[WorldClip], unseen: list[WorldClip]):
    held_out = {look for clip in unseen for look in looks(clip)}
    assert not held_out & {look for clip in trained for look in looks(clip)}
    assert len(held_out) > 25


def test_training_never_holds_the_unseen_pairs_of_events(trained: list[WorldClip], unseen: list[WorldClip]):
    known = {pair for clip in trained for pair in pairs_of_families(clip)}
    assert all(pairs_of_families(clip) - known for clip in unseen)


def test_training_holds_every_shape_colour_and_kind_by_itself(trained: list[WorldClip]):
    assert {shape for clip in trained for shape, _ in looks(clip)} == set(SHAPES)
    assert {colour for clip in trained for _, colour in looks(clip)} == set(COLOURS)
    seen = {event.kind for clip in trained for event in clip.events}
    assert seen >= set(KINDS) - RARE_KINDS


def test_rare_things_are_rare_in_training_and_everywhere_in_the_long_tail(trained: list[WorldClip]):
    rare_events = [event.kind in RARE_KINDS for clip in trained for event in clip.events]
    assert 0 < sum(rare_events) / len(rare_events) < 0.05
    assert all(is_rare(clip) for clip in clips("long_tail", 40))


def test_other_splits_keep_to_trained_combinations(unseen: list[WorldClip]):
    held_out = {look for clip in unseen for look in looks(clip)}
    for split in SPLITS.keys() - {"unseen"}:
        assert not held_out & {look for clip in clips(split, 20) for look in looks(clip)}, split


def test_styles_are_those_of_the_split(trained: list[WorldClip]):
    assert {clip.style for clip in trained} == set(TRAINED_STYLES)
    assert {clip.style for clip in clips("style", 40)} == set(OTHER_STYLES)


def test_perturbations_come_in_equal_numbers():
    found = [clip.perturbation for clip in clips("perturbed", 20)]
    assert all(found.count(name) == 4 for name in PERTURBATIONS)
    assert {clip.perturbation for clip in clips("test", 20)} == {None}


def test_long_clips_last_four_times_as_long():
    assert all(clip.duration_s == pytest.approx(16) for clip in clips("long", 10))
    longest = WorldConfig(seconds=(30.0, 60.0))
    assert all(clip.duration_s <= 60 for k in range(3) for clip in draw_clips(longest, "long", k))


def test_splits_of_one_seed_and_seeds_of_one_split_differ():
    def first(split: str, seed: int) -> list[tuple[float, ...]]:
        (clip,) = draw_clips(WorldConfig(seed=seed), split, 0)
        return clip.stage.x[:, 0].tolist()

    drawn = [first("train", 0), first("val", 0), first("test", 0), first("train", 1)]
    assert len({tuple(places) for places in drawn}) == len(drawn)


@pytest.mark.parametrize("things", [(1, 1), (1, 2), (3, 3), (2, 4)])
def test_scenes_hold_as_many_things_as_they_are_given(things: tuple[int, int]):
    """Where four may be there, also groups of three to five alike."""
    config = WorldConfig(seed=0, things=things)
    counts = Counter(
        sum(thing.scene == scene for thing in clip.things)
        for index in range(60)
        for clip in draw_clips(config, "train", index)
        for scene in range(len(clip.scenes))
    )
    fewest, most = things
    assert min(counts) == fewest
    assert max(counts) == most if most < 4 else max(counts) > 4
