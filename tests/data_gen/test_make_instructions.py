"""The program as a user runs it: real processes that are killed, a real language model behind a real server."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_gen.make_instructions import main
from data_gen.store import Store
from videollm.datasets.schema import check, read
from videollm.video import probe

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "scripts/samples/sample.mp4"
PICTURE = ROOT / "tests/senses/data/astronaut.jpg"
CLIPS = 30
PARTS = ("a grey cat looks up", "a cup of coffee stands on a table", "a rocket waits on its pad")


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, str(ROOT / "data_gen/make_instructions.py"), *map(str, arguments)]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=500)


def captions(folder: Path, count: int, shown: Path = SAMPLE) -> Path:
    """A table that captions `count` links to a video or a picture. Pictures are not measured, so that no process has
    to load torch."""
    for number in range(count):
        (folder / f"v{number}{shown.suffix}").symlink_to(shown)
    rows = [f'v{number}{shown.suffix},"{PARTS[number % 3]} in take number {number}"' for number in range(count)]
    path = folder / "mine.csv"
    path.write_text("\n".join(["video,caption", *rows, ""]))
    return path


def events(folder: Path, count: int) -> Path:
    """An annotation that says that its videos last longer than they do."""
    captions(folder, count)
    rows = {
        f"v{number}": {"duration": 99.0, "timestamps": [[0, 99]], "sentences": [f"{PARTS[number % 3]}, take {number}"]}
        for number in range(count)
    }
    path = folder / "train.json"
    path.write_text(json.dumps(rows))
    return path


def duration_s(path: Path) -> float:
    return probe(path).duration_s


@pytest.fixture
def stand_in() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts/stand_in.py"), "--delay", "0.02"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    yield process.stdout.readline().strip()
    process.kill()
    process.communicate()


def test_a_run_killed_at_random_points_loses_nothing_and_repeats_nothing(tmp_path: Path, stand_in: str):
    source, out = captions(tmp_path, CLIPS, PICTURE), tmp_path / "out.jsonl"
    llm = (
        "--generator",
        "llm",
        "--base-url",
        stand_in,
        "--model",
        "m",
        "--concurrency",
        "4",
        "--tasks",
        "qa/spatial,caption/short,summary",
    )
    arguments = (source, "--out", out, *llm)
    rng, kills, journal = random.Random(1), 0, tmp_path / "out.jsonl.journal.jsonl"
    for _ in range(3):
        size = journal.stat().st_size if journal.exists() else 0
        process = subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        further = size + rng.randrange(1, 4000)
        while process.poll() is None and (not journal.exists() or journal.stat().st_size < further):
            time.sleep(0.002)  # until it has written a random number of bytes more
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    with out.open("a") as file:
        file.write('{"id": "cut off in the mid')
    assert run(*arguments).returncode == 0
    assert kills >= 2
    items = [json.loads(line)["item"] for line in journal.read_text().splitlines()]
    assert len(items) == len(set(items)) == CLIPS * 3
    samples = list(read(out))
    assert len({sample.id for sample in samples}) == len(samples) == CLIPS * 3
    assert check(out, duration_s).problems == ()
    before = out.read_bytes()
    assert run(*arguments).returncode == 0 and out.read_bytes() == before


def test_a_lost_tail_of_the_disk_is_made_again(tmp_path: Path):
    source, out = captions(tmp_path, 6, PICTURE), tmp_path / "out.jsonl"
    assert run(source, "--out", out).returncode == 0
    whole = [sample.id for sample in read(out)]
    os.truncate(out, out.stat().st_size // 2)
    assert run(source, "--out", out).returncode == 0
    assert sorted(sample.id for sample in read(out)) == sorted(whole)


def test_times_end_where_the_file_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(events(tmp_path, 1)), "--out", str(tmp_path / "out.jsonl")]) == 0
    samples = list(read(tmp_path / "out.jsonl"))
    assert {sample.answer_times for sample in samples} == {((0.0, 12.0),)}
    assert check(tmp_path / "out.jsonl", duration_s).problems == ()


def test_one_split_is_read_and_the_others_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    splits = ("train", "validate", "validate", "test")
    for number in range(len(splits)):
        (tmp_path / f"video{number}.mp4").symlink_to(SAMPLE)
    videos = [{"video_id": f"video{n}", "split": split} for n, split in enumerate(splits)]
    sentences = [{"video_id": f"video{n}", "caption": f"a cat looks up {n}"} for n in range(len(splits))]
    source = tmp_path / "videodatainfo.json"
    source.write_text(json.dumps({"videos": videos, "sentences": sentences}))
    for split, names in (("train", ["video0.mp4"]), ("validate", ["video1.mp4", "video2.mp4"])):
        assert main([str(source), "--out", str(tmp_path / f"{split}.jsonl"), "--split", split]) == 0
        assert [sample.video for sample in read(tmp_path / f"{split}.jsonl")] == names
    assert "splits than train left out: 2 of validate, 1 of test" in capsys.readouterr().err
    assert main([str(source), "--out", str(tmp_path / "none.jsonl"), "--split", "val"]) == 2
    assert "it has no clip of the split val, say --split" in capsys.readouterr().err


def test_pictures_and_text_alone_become_rows_that_training_takes(tmp_path: Path):
    Image.new("RGB", (64, 64)).save(tmp_path / "clock.jpg")
    said = [{"from": "human", "value": "What time does the clock show?"}, {"from": "gpt", "value": "It shows 10:09."}]
    rows = [{"id": "a", "image": "clock.jpg", "conversations": said}, {"id": "b", "conversations": said}]
    (tmp_path / "mix.json").write_text(json.dumps(rows))
    assert main([str(tmp_path / "mix.json"), "--out", str(tmp_path / "out.jsonl")]) == 0
    assert [sample.video for sample in read(tmp_path / "out.jsonl")] == ["clock.jpg", ""]
    assert check(tmp_path / "out.jsonl", duration_s).problems == ()


def test_one_process_at_a_time(tmp_path: Path):
    source, out = captions(tmp_path, 1), tmp_path / "out.jsonl"
    with Store(out):
        done = run(source, "--out", out)
    assert done.returncode == 2 and "another process" in done.stderr


def test_what_is_broken_is_counted_and_strict_stops(tmp_path: Path):
    source, out = captions(tmp_path, 3), tmp_path / "out.jsonl"
    with source.open("a") as file:
        file.write("none.mp4,nothing\nv0.mp4,a,b\n")
    done = run(source, "--out", out)
    assert done.returncode == 0 and "mine.csv line 6" in done.stderr and "2 broken rows" in done.stderr
    assert len(list(read(out))) == 3
    page = (tmp_path / "out.jsonl.datasheet.md").read_text()
    assert "3 samples about 3 videos" in page and "left out: 2." in page
    assert (tmp_path / "out.jsonl.datasheet.png").read_bytes().startswith(b"\x89PNG")
    strict = run(source, "--out", tmp_path / "strict.jsonl", "--strict")
    assert strict.returncode == 2 and len(strict.stderr.splitlines()) == 1 and not (tmp_path / "strict.jsonl").exists()


def test_a_dry_run_shows_three_prompts_and_writes_nothing(tmp_path: Path):
    source, out = captions(tmp_path, 2), tmp_path / "out.jsonl"
    done = run(
        source, "--out", out, "--dry-run", "--generator", "llm", "--base-url", "http://127.0.0.1:1/v1", "--model", "m"
    )
    assert done.returncode == 0 and done.stdout.count("## Annotation") == 3 and not out.exists()
    assert run(source, "--out", out, "--generator", "llm").returncode == 2


@pytest.mark.parametrize("module", ["py3langid", "matplotlib", "json_repair", "openai"])
def test_a_missing_extra_is_named_in_one_line_and_help_needs_none(tmp_path: Path, module: str):
    source = captions(tmp_path, 1)
    program = (
        f"import sys; sys.modules['{module}'] = None; from data_gen.make_instructions import main; sys.exit(main())"
    )

    def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True)

    done = call(source, "--out", tmp_path / "out.jsonl")
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert module in line and "pip install 'videollm[" in line and not (tmp_path / "out.jsonl").exists()
    assert call("--help").returncode == 0


def test_the_lite_language_model_writes_samples(tmp_path: Path):
    """The smallest model there is, without any help to write JSON: what passes must be valid; how much is printed."""
    import torch

    from videollm.config import LanguageModelConfig
    from videollm.models.language import load_language_model, load_tokenizer

    config = LanguageModelConfig(source="asset:smollm2-135m-instruct", dtype="float32")
    tokenizer, model = load_tokenizer(config), load_language_model(config)

    class LiteHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if "response_format" in body:
                self.send_error(400)
                return
            prompt: Any = tokenizer.apply_chat_template(
                body["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            with torch.inference_mode():
                ids = model.generate(**prompt, max_new_tokens=32, do_sample=False)  # type: ignore[operator]
            made = ids[0, prompt["input_ids"].shape[1] :]
            usage = {"prompt_tokens": prompt["input_ids"].shape[1], "completion_tokens": len(made)}
            message = {"content": tokenizer.decode(made, skip_special_tokens=True)}
            data = json.dumps({"choices": [{"message": message}], "usage": usage}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), LiteHandler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    source, out = captions(tmp_path, 2), tmp_path / "out.jsonl"
    url = f"http://127.0.0.1:{http.server_port}/v1"
    llm = ("--generator", "llm", "--base-url", url, "--model", "lite", "--concurrency", "1")
    done = run(source, "--out", out, *llm, "--tasks", "caption/short,qa/spatial")
    http.shutdown()
    assert done.returncode == 0, done.stderr
    with Store(out) as store:
        totals = store.totals
    drafts = totals.rows + totals.rejected.total()
    print(f"{totals.rows} of {drafts} drafts usable, {totals.unusable.total()} replies lost")
    assert totals.items == 4 and totals.completion_tokens > 0
    assert check(out, duration_s).problems == ()


def test_ray_gives_the_same_samples(tmp_path: Path):
    source = captions(tmp_path, 12, PICTURE)
    spread = run(source, "--out", tmp_path / "spread.jsonl", "--ray", "local")
    assert spread.returncode == 0, spread.stderr
    assert run(source, "--out", tmp_path / "one.jsonl").returncode == 0
    rows = [{(s.id, s.messages) for s in read(tmp_path / name)} for name in ("spread.jsonl", "one.jsonl")]
    assert rows[0] == rows[1] and len(rows[0]) == 12
