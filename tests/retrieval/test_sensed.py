"""What is said and seen in indexed videos, found by the senses and searched by filters."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import av
import lancedb
import numpy as np
import pytest

from tests.retrieval.library import GREEN, picture, write_film
from tests.senses.test_objects import SAMPLE
from tests.senses.test_speech import SHORT, SHORT_TEXT, words
from videollm.cli import main
from videollm.errors import ConfigError
from videollm.retrieval.index import Index
from videollm.retrieval.search import Filter, search
from videollm.retrieval.words import folded


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """A cat and then a cup with Spanish subtitles; a green picture with a spoken sentence."""
    folder = tmp_path_factory.mktemp("library")
    shutil.copy(SAMPLE, folder / "cat.mp4")
    (folder / "cat.es.srt").write_text(
        "1\n00:00:00,500 --> 00:00:02,000\n¡Qué gato más CÓMODO!\n\n2\n00:00:05,000 --> 00:00:06,000\n喝一杯咖啡。\n"
    )
    write_talk(folder / "talk.mp4", SHORT)
    made = Index.create(folder / "idx", "debug")
    assert made.update([folder], senses=("speech", "objects")).added == 2
    return made


def write_talk(path: Path, speech: Path) -> None:
    with av.open(str(path), "w") as output, av.open(str(speech)) as source:
        video = output.add_stream("libx264", rate=4)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sound = output.add_stream("aac", rate=source.streams.audio[0].rate)
        for shift in range(12):
            output.mux(video.encode(av.VideoFrame.from_ndarray(picture(GREEN, shift))))
        output.mux(video.encode())
        for frame in source.decode(audio=0):
            output.mux(sound.encode(frame))
        output.mux(sound.encode())


def found(index: Index, **where) -> list[tuple[str, float]]:
    return [(Path(m.path).name, m.start_s) for m in search(index, None, where=Filter(**where))]


def test_what_is_said_is_found_by_words_in_any_language(index: Index):
    (moment,) = search(index, None, where=Filter(said="Ill-disposed young MAN"))
    assert Path(moment.path).name == "talk.mp4" and words(moment.text) == SHORT_TEXT and moment.score == 1
    assert found(index, said="gato mas comodo") == [("cat.mp4", 0.0)]
    assert found(index, said="咖啡") == [("cat.mp4", 4.0)]
    assert found(index, said="young disposed") == found(index, said="man was") == found(index, said="gat") == []


def test_what_is_seen_is_found_by_name_and_number(index: Index):
    assert found(index, has=("cat",)) == [("cat.mp4", 0.0)]
    assert ("cat.mp4", 4.0) in found(index, has=("cup",))
    assert found(index, has=("cat>=2",)) == found(index, has=("cat", "cup")) == found(index, has=("person",)) == []


def test_filters_join_a_query(index: Index):
    moments = search(index, "anything", where=Filter(has=("cat",), said="gato"))
    assert [Path(m.path).name for m in moments] == ["cat.mp4"] and moments[0].score < 1


def test_bad_filters_are_refused(index: Index):
    with pytest.raises(ConfigError, match=r"no thing is named 'unicorn'; choose from person, bicycle"):
        Filter(has=("unicorn",))
    for number in ("0", "x", "1.5"):
        with pytest.raises(ConfigError, match="a whole number from 1, as in person>=2"):
            Filter(has=(f"person>={number}",))
    with pytest.raises(ConfigError, match="has no words"):
        Filter(said="...!")
    with pytest.raises(ConfigError, match="neither a query nor a filter"):
        search(index, None)


def test_a_filter_on_what_nobody_looked_for_is_refused(index: Index, tmp_path: Path):
    folder = Path(index.table.uri).parent
    blind = Index.create(tmp_path / "blind", "debug")
    blind.update([folder / "talk.mp4"])
    for where, command in ((Filter(said="man"), "speech"), (Filter(has=("cat",), said="man"), "speech,objects")):
        with pytest.raises(ConfigError, match=rf"does not know what is said.*--senses {command}$"):
            search(blind, "a man", where=where)
    blind.update([folder])
    assert found(blind, said="gato") == [("cat.mp4", 0.0)]  # subtitles are words too
    with pytest.raises(ConfigError, match=r"does not know what is seen in its videos; .* --senses objects$"):
        search(blind, None, where=Filter(has=("cat",)))


def test_the_commands(index: Index, capsys: pytest.CaptureFixture[str]):
    folder = Path(index.table.uri).parent
    command = ["search", "--index", index.table.uri, "--json"]
    assert main([*command, "--said", "gato", "--has", "cat"]) == 0
    (moment,) = json.loads(capsys.readouterr().out)["moments"]
    assert moment["video"] == str(folder / "cat.mp4") and "CÓMODO" in moment["text"]
    assert main(command) == 2 and "--said or --has alone" in capsys.readouterr().err
    # The senses of the index look at new files too, unless told otherwise.
    write_film(folder / "new.mp4", [GREEN])
    assert main(["index", str(folder), "--index", index.table.uri, "--model", "debug", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["added"] == 1
    assert Index.open(index.table.uri).table.videos()[str(folder / "new.mp4")].senses == "objects,speech"


def test_an_index_made_before_the_senses_is_read_and_extended(tmp_path: Path):
    """As the version before wrote it: without the columns."""
    shutil.copy(SAMPLE, tmp_path / "cat.mp4")
    index = Index.create(tmp_path / "idx", "debug")
    index.update([tmp_path])
    vectors = index.vectors
    assert vectors is not None
    database = lancedb.connect(index.table.uri)
    database.open_table("segments").drop_columns(["said", "things"])
    database.open_table("videos").drop_columns(["senses"])

    old = Index.open(index.table.uri)
    assert len(search(old, "x")) == len(vectors)
    with pytest.raises(ConfigError, match="run `videollm index` on them once more"):
        search(old, None, where=Filter(said="x"))

    (tmp_path / "cat.srt").write_text("1\n00:00:00,500 --> 00:00:02,000\nA cat.\n")
    extended = Index.create(index.table.uri, "debug")
    report = asdict(extended.update([tmp_path], senses=("speech",)))
    assert (report["changed"], report["added"]) == (1, 0)
    assert found(extended, said="cat") == [("cat.mp4", 0.0)]
    assert extended.vectors is not None
    np.testing.assert_array_equal(extended.vectors.rows.numpy(), vectors.rows.numpy())  # not encoded again


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("Straße, ÉTÉ!", " strasse ete "),
        ("Ёлка и й", " елка и и "),
        ("你好 world", " 你 好 world "),
        ("שָׁלוֹם", " שלום "),
        ("don't 3.5", " don t 3 5 "),
        ("…", ""),
    ],
)
def test_words_have_one_form(text: str, form: str):
    assert folded(text) == form
