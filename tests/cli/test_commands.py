"""The command as a user runs it: real processes, real files, exit codes, one JSON object on stdout."""

import json
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from tests.fork_server import python

SAMPLE = str(Path(__file__).parents[2] / "scripts/samples/sample.mp4")


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [python(), "-m", "videollm.cli", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=300)


def result(*arguments: str) -> dict:
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_info():
    found = result("info", SAMPLE)
    assert (found["width"], found["height"], found["codec"]) == (480, 320, "h264")
    assert found["duration_s"] == pytest.approx(12, abs=0.01)


def test_the_default_model_answers_rightly_and_prints_nothing_else():
    done = run("ask", SAMPLE, "What is in this video?")
    assert done.returncode == 0
    answer, evidence, receipt = done.stdout.splitlines()
    assert answer == "A cat, then an espresso, then a rocket. 1 cup is seen."
    assert evidence.startswith("evidence: 0:0") and receipt.startswith("receipt:  lite ")
    assert done.stderr == ""


def test_ask_prints_the_promised_object():
    found = result("ask", SAMPLE, "What is it?", "--model", "debug", "--frames", "6", "--end", "9")
    assert set(found) == {"text", "evidence", "receipt"}
    assert {"start", "end", "score"} <= set(found["evidence"][0])
    receipt = found["receipt"]
    promised = "model config_sha frames times_s visual_tokens prompt_tokens completion_tokens truncated ms"
    assert set(promised.split()) <= set(receipt)
    assert receipt["frames"] == 6 == len(receipt["times_s"]) and max(receipt["times_s"]) < 9


def test_the_decoder_can_be_chosen():
    pytest.importorskip("decord")
    arguments = ("ask", SAMPLE, "What is it?", "--model", "debug", "--frames", "4")
    ours, theirs = result(*arguments)["receipt"], result(*arguments, "--decoder", "decord")["receipt"]
    assert theirs["times_s"] == ours["times_s"] and len(ours["times_s"]) == 4


def test_cut_writes_the_part_that_a_text_describes(tmp_path: Path):
    found = result("cut", SAMPLE, "a rocket", "--out", str(tmp_path / "rocket.mp4"))
    assert (found["start"], found["end"]) == (pytest.approx(8), pytest.approx(12)) and found["copied"]
    assert result("info", found["file"])["duration_s"] == pytest.approx(4)
    done = run("cut", SAMPLE, "--out", str(tmp_path / "none.mp4"))
    assert done.returncode == 2 and "give --start and --end" in done.stderr


def test_chat_keeps_the_session_and_survives_bad_commands(tmp_path: Path):
    saved = tmp_path / "talk"
    script = (
        f"/evidence\nWhat?\n/receipt\n/video {tmp_path}/none.mp4\n/nonsense\nAnd?\n/receipt\n/save {saved}\n/quit\n"
    )
    done = run("chat", SAMPLE, "--model", "debug", "--max-new-tokens", "8", stdin=script)
    assert done.returncode == 0, done.stderr
    receipts = [json.loads(line.removeprefix("> ")) for line in done.stdout.splitlines() if '"config_sha"' in line]
    assert [r["cached_tokens"] > 0 for r in receipts] == [False, True]
    assert "none.mp4: no such file" in done.stderr and "commands:" in done.stdout
    assert saved.is_file()


def test_dense_captions_tile_the_video():
    captions = result("caption", SAMPLE, "--model", "debug", "--dense")["captions"]
    assert captions[0]["start"] == 0 and captions[-1]["end"] == pytest.approx(12, abs=0.01)
    assert all(a["end"] == b["start"] for a, b in pairwise(captions))


def test_plan_counts_what_ask_then_uses():
    plan = result("plan", SAMPLE, "--model", "debug", "--fps", "2")
    receipt = result("ask", SAMPLE, "Hi?", "--model", "debug", "--fps", "2")["receipt"]
    assert plan["frames"] == receipt["frames"] and plan["visual_tokens"] == receipt["visual_tokens"]
    assert plan["fits"] and all(v >= 0 for v in (*plan["memory_mb"].values(), *plan["latency_s"].values()))


def test_assets_lists_the_models_and_the_senses():
    names = {a["name"] for a in result("assets")["assets"]}
    assert names == {
        *("efficientnet-lite0", "all-minilm-l6-v2", "smollm2-135m-instruct"),  # lite
        "multilingual-e5-small",  # lite-multilingual
        *("whisper-base", "ssd-mobilenet-v2", "pp-ocrv6-small", "centerface"),  # speech, objects, text, faces
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ask", "{tmp}/none.mp4", "?"], "none.mp4: no such file"),
        (["info", "{tmp}"], "not a file"),
        (["info", "{tmp}/text.mp4"], "text.mp4"),
        (["ask", SAMPLE, "?", "--model", "lit"], "neither a checkpoint directory"),
        (["ask", SAMPLE, "?", "--model", "debug", "--frames", "0"], "'0' is not a whole number from 1"),
        (["ask", SAMPLE, "?", "--model", "debug", "--frames", "4", "--fps", "1"], "exactly one of"),
        (["ask", SAMPLE, "?", "--model", "debug", "--start", "99"], "start_s 99"),
        (["ask", SAMPLE, "?", "--model", "debug", "--temperature", "-1"], "'-1' is not a number from 0"),
        (["assets", "verify", "nothing"], "nothing"),
    ],
)
def test_bad_input_exits_with_2_and_one_line(tmp_path: Path, arguments: list[str], message: str):
    (tmp_path / "text.mp4").write_text("not a video")
    done = run(*[a.format(tmp=tmp_path) for a in arguments])
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("module", "extra", "command"),
    [
        ("lancedb", "index", f"from videollm.cli import main; sys.exit(main(['index', '{SAMPLE}', '--index', 'no']))"),
        ("sacrebleu", "eval", "from videollm.cli import main; sys.exit(main(['eval', 'openqa']))"),
        ("uvicorn", "serve", "import runpy; runpy.run_module('serve', run_name='__main__')"),
    ],
)
def test_a_missing_extra_is_named_in_one_line(module: str, extra: str, command: str):
    program = f"import sys; sys.modules['{module}'] = None; {command}"
    done = subprocess.run([python(), "-c", program], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert module in line and line.endswith(f"pip install 'videollm[{extra}]'")
