"""The command as a user runs it, with the shipped model: what it prints, sends and leaves behind."""

import json
import subprocess
import threading
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import av
import pysubs2

from tests.fork_server import python
from videollm.retrieval.table import SegmentTable

SAMPLE = Path(__file__).parents[2] / "scripts/samples/sample.mp4"  # a cat, an espresso, a rocket: 4 s each


class _Hook(BaseHTTPRequestHandler):
    received: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_a_file_is_watched_at_its_own_speed(tmp_path: Path):
    received: list[dict[str, Any]] = []
    hook = HTTPServer(("127.0.0.1", 0), type("Hook", (_Hook,), {"received": received}))
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    command = [python(), "-m", "videollm.cli", "watch", str(SAMPLE), "--fps", "2", "--json"]
    command += ["--when", "an espresso appears", "--alerts", str(tmp_path / "alerts.jsonl")]
    command += ["--webhook", f"http://127.0.0.1:{hook.server_port}/hook", "--clips", str(tmp_path / "clips")]
    command += ["--captions", str(tmp_path / "out.vtt"), "--index", str(tmp_path / "index")]
    events: list[dict[str, Any]] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        for line in process.stdout:
            events.append(json.loads(line))
            if [e["event"] for e in events].count("segment") == 1 and events[-1]["event"] == "segment":
                process.stdin.write("What is in the video?\nWhat was there at 03:00?\n")
                process.stdin.flush()
    hook.shutdown()
    assert process.returncode == 0

    def of(kind: str) -> list[dict[str, Any]]:
        return [event for event in events if event["event"] == kind]

    def at(event: dict[str, Any], field: str) -> float:
        return datetime.fromisoformat(event[field]).timestamp()

    segments, began = of("segment"), at(of("segment")[0], "start")
    words = [segment["tags"][0][0] for segment in segments if segment["tags"]]
    assert list(dict.fromkeys(words)) == ["cat", "espresso", "rocket"]
    assert any(segment["objects"].get("cup") == 1 for segment in segments)
    assert not any("person" in segment["objects"] for segment in segments)
    assert 11 < at(segments[-1], "end") - began < 14 and events[-1]["event"] == "ended"

    begins, ends = of("alert")
    assert (begins["state"], ends["state"]) == ("begins", "ends") and begins["score"] > 0.85
    assert 3.5 < at(begins, "time") - began < 6 < at(ends, "time") - began < 10
    (clip,) = of("clip")
    assert clip["file"] == begins["clip"] and at(clip, "start") <= at(begins, "time") <= at(clip, "end")
    with av.open(clip["file"]) as file:
        assert sum(1 for _ in file.decode(video=0)) >= 24 * 5
    told = [json.loads(line) for line in (tmp_path / "alerts.jsonl").read_text().splitlines()]
    assert told == received and sorted(e["event"] for e in told) == ["alert", "alert", "clip"]

    (answer,), (problem,) = of("answer"), of("problem")
    assert "cat" in answer["text"] and at(answer, "start") == began
    assert all(began - 0.1 <= at(e, "start") < at(e, "end") for e in answer["evidence"])
    assert "nothing is remembered of 03:00:00" in problem["reason"]

    cues = pysubs2.load(str(tmp_path / "out.vtt"))
    assert len(cues) == len(segments) and [c.text for c in cues] == [s["text"] for s in segments]
    assert "espresso" in " ".join(cue.text for cue in cues)
    table = SegmentTable.open(str(tmp_path / "index"))
    (video,) = table.videos().values()
    assert video.path.startswith("sample.mp4 since 20") and video.segments == table.count() == len(segments)
