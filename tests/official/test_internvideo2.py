"""InternVideo2's published file becomes an encoder that indexes and searches, with the official embeddings."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import BertTokenizer

from tests.models.published.recorded import Recorded, recorded
from tests.retrieval.library import BLUE, RED, write_film
from videollm.cli import main
from videollm.encoders.build import build_encoder
from videollm.errors import CheckpointError
from videollm.model import config_of
from videollm.models.published.internvideo2_encoder import InternVideo2Encoder
from videollm.official.internvideo2 import import_internvideo2


@pytest.fixture(scope="module")
def data() -> Recorded:
    return recorded("InternVideo2_stage2/internvideo2_stage2")


@pytest.fixture(scope="module")
def imported(data: Recorded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("internvideo2")
    torch.save({"module": data.state}, folder / "stage2.pt")
    letters = [chr(ord("a") + i) for i in range(24)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words[: data.config["bert"]["vocab"]]) + "\n")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    import_internvideo2([folder / "stage2.pt"], folder / "bert", folder / "out", data.config)
    return folder / "out"


@pytest.fixture(scope="module")
def encoder(imported: Path) -> InternVideo2Encoder:
    return build_encoder(config_of(str(imported)).encoder, "cpu")  # type: ignore[return-value]


@torch.inference_mode()
def test_embeddings_are_the_official_ones(data: Recorded, encoder: InternVideo2Encoder):
    video = data.input["video_btchw"]
    for clips, output in ((video, "vision_proj"), (video[:, :1], "vision_proj_image_T1")):
        _, found = encoder.embed_clips(clips)
        torch.testing.assert_close(found, F.normalize(data.output[output], dim=-1), atol=2e-5, rtol=0)
    text = encoder.embed_words(data.input["input_ids"], data.input["attention_mask"].bool())
    torch.testing.assert_close(text.embed, F.normalize(data.output["text_proj"], dim=-1), atol=2e-5, rtol=0)
    cosines = found.new_tensor(encoder.scale) * encoder.embed_clips(video)[1] @ text.embed.T
    torch.testing.assert_close(cosines, data.output["sim_v2t"], atol=2e-4, rtol=0)


def test_frames_of_a_clip_share_its_embedding(encoder: InternVideo2Encoder):
    pixels = torch.randint(0, 256, (7, 3, 20, 30), dtype=torch.uint8)
    found = encoder.encode_frames(pixels)
    assert found.tokens.shape == (7, encoder.tokens_per_frame, encoder.token_dim)
    alone = [encoder.encode_frames(part).embed[0] for part in (pixels[:3], pixels[3:6], pixels[[6, 6, 6]])]
    torch.testing.assert_close(found.embed, torch.stack([alone[i] for i in (0, 0, 0, 1, 1, 1, 2)]))


def test_indexes_searches_and_matches(imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_film(tmp_path / "films" / "a.mp4", [RED] * 5)
    write_film(tmp_path / "films" / "b.mp4", [BLUE] * 3)
    index = str(tmp_path / "index")
    assert main(["index", str(tmp_path / "films"), "--index", index, "--model", str(imported)]) == 0
    capsys.readouterr()
    ranked = []
    for more in ([], ["--rerank", str(imported)]):
        assert main(["search", "a cab", "--index", index, "--json", *more]) == 0
        ranked.append([m["score"] for m in json.loads(capsys.readouterr().out)["moments"]])
    assert [len(scores) for scores in ranked] == [3, 3]  # 5 seconds are two clips of 3 frames
    assert all(0 < score < 1 for score in ranked[1])
    assert ranked[1] == sorted(ranked[1], reverse=True) != ranked[0]


def test_a_directory_of_an_encoder_alone_does_not_answer(imported: Path, tmp_path: Path):
    film = write_film(tmp_path / "a.mp4", [RED])
    assert main(["ask", str(film), "What?", "--model", str(imported)]) == 2


def test_incomplete_files_are_refused(data: Recorded, imported: Path, tmp_path: Path):
    torch.save({n: t for n, t in data.state.items() if n != "text_proj.bias"}, tmp_path / "cut.pt")
    with pytest.raises(CheckpointError, match=r"missing: text_proj\.bias"):
        import_internvideo2([tmp_path / "cut.pt"], imported.parent / "bert", tmp_path / "out", data.config)
