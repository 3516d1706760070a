"""Which shots a montage takes: those that match, unlike each other, without a cut inside, and no longer than wanted."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.cli.test_commands import result, run
from tests.retrieval.library import GREEN, RED, picture, write_film
from videollm.config import SamplingConfig
from videollm.errors import ConfigError
from videollm.retrieval.highlights import LONGEST_S, RELEVANT, choose_shots, without_cut
from videollm.retrieval.index import Index
from videollm.retrieval.queries import embed_media
from videollm.retrieval.search import Moment, search
from videollm.video.decoding import probe

SAMPLES = Path(__file__).parents[2] / "scripts/samples"
SCARLET = (225, 60, 60)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Index, torch.Tensor]:
    folder = tmp_path_factory.mktemp("library")
    for name in ("red", "copy of red"):
        write_film(folder / f"{name}.mp4", [RED] * 4)
    write_film(folder / "scarlet.mp4", [SCARLET] * 4)
    write_film(folder / "mixed.mp4", [RED, GREEN, GREEN, GREEN, RED, RED, RED, GREEN])
    index = Index.create(folder / "idx", "debug")
    index.update([folder])
    Image.fromarray(picture(RED)).save(folder / "red.png")
    return folder, index, embed_media(folder / "red.png", index.encoder, SamplingConfig(fps=2.0))


def test_shots_match_and_last_as_long_as_wanted(library):
    _, index, red = library
    shots, problems = choose_shots([index], red, 9.0)
    lengths = [shot.end_s - shot.start_s for shot in shots]
    assert problems == [] and 8 <= sum(lengths) <= 9.0 + 1e-6 and max(lengths) <= LONGEST_S
    moments = search(index, red, 99)
    assert moments[-1].score < RELEVANT * moments[0].score  # the green ones
    good = {(m.path, m.start_s): m.end_s for m in moments if m.score >= RELEVANT * moments[0].score}
    for shot in shots:
        around = [s for (path, s), e in good.items() if path == shot.path and s <= shot.start_s and shot.end_s <= e]
        assert around and shot.title.startswith(Path(shot.path).stem)


def test_what_is_unlike_the_first_is_taken_before_its_copy(library):
    _, index, red = library
    names = {Path(shot.path).stem for shot in choose_shots([index], red, 5.0)[0]}
    assert "scarlet" in names and len(names & {"red", "copy of red", "mixed"}) == 1


def test_no_new_scene_starts_in_a_shot(library):
    mixed = str(library[0] / "mixed.mp4")
    shot = without_cut(Moment(mixed, 0.0, 8.0, 1.0, (), "", 8.0), 5.0)  # 1.5 to 6.5 s, with a cut at 4 s
    assert (shot.start_s, shot.end_s) in {(1.5, 4.0), (4.0, 6.5)}


def test_a_file_that_is_damaged_or_gone_costs_its_shots_only(library, tmp_path: Path):
    write_film(tmp_path / "good.mp4", [RED] * 4)
    write_film(tmp_path / "bad.mp4", [SCARLET] * 4)
    write_film(tmp_path / "gone.mp4", [RED] * 4)
    index = Index.create(tmp_path / "idx", "debug")
    index.update([tmp_path])
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "gone.mp4").unlink()
    shots, problems = choose_shots([index], library[2], 20)
    assert [Path(shot.path).name for shot in shots] == ["good.mp4"]
    assert [Path(path).name for path, _ in problems] == ["bad.mp4"]


def test_an_index_that_shows_nothing_of_it_is_said(library):
    with pytest.raises(ConfigError, match="shows it"):
        choose_shots([library[1]], -library[2], 5)


@pytest.mark.slow
def test_the_command_writes_what_it_lists(tmp_path: Path):
    made = result(
        *("reel", str(SAMPLES), "--index", str(tmp_path / "idx"), "--about", "a cup of coffee"),
        *("--seconds", "12", "--out", str(tmp_path / "reel.mp4"), "--timeline", str(tmp_path / "reel.otio")),
    )
    assert {Path(shot["path"]).name for shot in made["shots"]} == {"sample.mp4", "reading.mp4"}  # both show a cup
    assert all(s["start_s"] >= 4 and s["end_s"] <= 8 for s in made["shots"] if s["path"].endswith("sample.mp4"))
    length_s = probe(made["file"]).duration_s
    assert length_s == pytest.approx(made["seconds"], abs=0.05) and length_s <= 12.05
    assert (tmp_path / "reel.otio").is_file()
    none = run("reel", "--index", str(tmp_path / "idx"), "--about", "a zebra", "--out", str(tmp_path / "none.mp4"))
    assert none.returncode == 2 and "no video of the index shows 'a zebra'" in none.stderr
    assert not (tmp_path / "none.mp4").exists()
