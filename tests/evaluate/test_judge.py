"""The judge against real HTTP servers: what it asks, what counts as a verdict, whether it judges as before."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.evaluate.conftest import evaluate, report, write_lines
from videollm.checkpoint import load
from videollm.datasets.evaluation_folder import ItemQuery
from videollm.datasets.registry import choose_item_reader
from videollm.errors import ConfigError, DataError
from videollm.evaluate.drift import agreement, check, read_labels
from videollm.evaluate.judge import (
    Case,
    EndpointJudge,
    LocalJudge,
    frozen,
    parse,
    prompt,
    verdict,
    verdicts,
)
from videollm.inference.openai import RETRIES, EndpointError

CASE = Case(id="a", question="What colour is it?", answer="red", prediction="It is red.")
Say = Callable[[dict[str, Any]], tuple[int, str]]  # a request's body -> status, the message's content


class JudgeServer(ThreadingHTTPServer):
    """Answers as `say` does; keeps the bodies of all requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), JudgeHandler)
        self.asked: list[dict[str, Any]] = []
        self.say: Say = right
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def judge(self) -> EndpointJudge:
        return EndpointJudge(self.url, "judge-2026")


class JudgeHandler(BaseHTTPRequestHandler):
    server: JudgeServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        status, content = self.server.say(body)
        data = json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Retry-After", "0.001")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def right(body: dict[str, Any]) -> tuple[int, str]:
    """Says of each answer that it is right if a word of the right answer stands in it."""
    lines = body["messages"][-1]["content"].splitlines()
    given = {name: line.partition(": ")[2].lower() for line in lines for name in [line.partition(": ")[0]]}
    hit = any(word.strip(".") in given["Predicted answer"] for word in given["Right answer"].split())
    wanted = body["response_format"]["json_schema"]["schema"]["properties"]
    return 200, json.dumps({name: {"correct": hit, "score": 5.0 if hit else 0.5}[name] for name in wanted})


def wrong(body: dict[str, Any]) -> tuple[int, str]:
    said = json.loads(right(body)[1])
    return 200, json.dumps({"correct": not said["correct"], "score": 5 - said["score"]})


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    made = JudgeServer()
    thread = Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def test_a_question_is_put_with_its_answers_and_pinned(server: JudgeServer):
    assert verdict(server.judge(), CASE, "accuracy").correct is True
    (body,) = server.asked
    assert (body["model"], body["temperature"], body["seed"]) == ("judge-2026", 0, 0)
    user = body["messages"][-1]["content"]
    assert all(text in user for text in (CASE.question, CASE.answer, CASE.prediction)) and "{{" not in user
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["correct", "score"] and schema["additionalProperties"] is False


def test_an_unknown_aspect_is_refused():
    with pytest.raises(ConfigError, match="no aspect 'style'; choose from accuracy, correctness"):
        prompt("style")


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"correct": true, "score": 4.8}', 4.8),
        ('```json\n{"correct": false, "score": 0}\n```', 0.0),
        (' {"score": 5, "correct": true}\n', 5.0),
    ],
)
def test_replies_that_are_verdicts(text: str, score: float):
    assert parse(text, prompt("accuracy"))["score"] == score


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yes",
        "{''pred'': ''yes'', ''score'': 4.8}",
        '{"correct": true}',
        '{"correct": "yes", "score": 3}',
        '{"correct": true, "score": "3"}',
        '{"correct": true, "score": true}',
        '{"correct": true, "score": 7}',
        '{"correct": true, "score": NaN}',
        '{"correct": true, "score": 3, "why": "so"}',
        "[3]",
    ],
)
def test_any_other_reply_is_a_failure_and_no_score(server: JudgeServer, text: str):
    server.say = lambda body: (200, text)
    found = verdict(server.judge(), CASE, "accuracy")
    assert found.failure and found.score is None and found.correct is None


def test_a_server_without_schemas_is_asked_without(server: JudgeServer):
    server.say = lambda body: (400, "") if "response_format" in body else (200, '{"score": 2.5}')
    assert verdict(server.judge(), CASE, "detail").score == 2.5
    formats = [body.get("response_format", {}).get("type") for body in server.asked]
    assert formats == ["json_schema", "json_object", None]


def test_a_busy_server_is_asked_again_and_a_dead_one_ends_the_run(server: JudgeServer):
    answers = iter([(503, ""), (429, ""), (200, '{"score": 1}')])
    server.say = lambda body: next(answers)
    assert verdict(server.judge(), CASE, "context").score == 1
    server.say = lambda body: (500, "")
    with pytest.raises(EndpointError, match="answers 500"):
        verdict(server.judge(), CASE, "context")
    assert len(server.asked) == 3 + 1 + RETRIES
    server.say = lambda body: (401, "")
    with pytest.raises(EndpointError, match="answers 401"):
        verdict(server.judge(), CASE, "context")


def test_verdicts_are_kept_and_only_what_changed_is_asked(server: JudgeServer, tmp_path: Path):
    cases = [replace(CASE, id=str(n)) for n in range(4)]
    journal = tmp_path / "judged.jsonl"
    first = verdicts(server.judge(), cases, ["accuracy"], journal)
    with journal.open("a") as file:
        file.write('{"key": "cut off')
    changed = [*cases[:3], replace(cases[3], prediction="Blue.")]
    second = verdicts(server.judge(), changed, ["accuracy"], journal)
    assert len(server.asked) == 5 and second[:3] == first[:3]
    assert (first[3].correct, second[3].correct) == (True, False)
    assert [v.id for v in second] == ["0", "1", "2", "3"]


def test_consistency_is_of_two_answers_to_two_wordings(server: JudgeServer, tmp_path: Path):
    server.say = lambda body: (200, '{"score": 4}')
    pair = replace(CASE, id="b", paraphrase="Which colour does it have?", second="Red.")
    (found,) = verdicts(server.judge(), [CASE, pair], ["consistency"], tmp_path / "j.jsonl")
    assert found.id == "b" and all(t in server.asked[0]["messages"][-1]["content"] for t in (pair.paraphrase, "Red."))


def test_a_local_model_that_writes_no_json_fails_and_scores_nothing():
    found = verdict(LocalJudge(load("debug")), CASE, "accuracy")
    assert found.failure and found.score is None


def test_the_stand_in_server_is_a_judge():
    command = [sys.executable, str(Path(__file__).parents[2] / "scripts/stand_in.py"), "--delay", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        found = verdict(EndpointJudge(url, "stand-in"), CASE, "accuracy")
        process.kill()
    assert found.failure is None and found.correct is True and found.score == 1


def test_frozen_answers_have_people_s_verdicts():
    cases, labels = frozen()
    assert {c.id for c in cases} == set(labels) and len(cases) >= 20
    assert 0.3 < sum(row["correct"] for row in labels.values()) / len(labels) < 0.7


def by_people(body: dict[str, Any]) -> tuple[int, str]:
    """The frozen answers as people judge them."""
    cases, labels = frozen()
    asked = body["messages"][-1]["content"]
    case = next(c for c in cases if c.question in asked and f"Predicted answer: {c.prediction}\n" in asked)
    return 200, json.dumps({name: labels[case.id][name] for name in ("correct", "score")})


def test_a_judge_is_compared_with_its_first_verdicts(server: JudgeServer, tmp_path: Path):
    kept = tmp_path / "baseline.json"
    server.say = by_people
    first = check(server.judge(), kept)
    assert (first["baseline"], first["drifted"], first["failures"]) == ("made", False, 0)
    assert first["people"]["kappa"] == pytest.approx(1) and first["people"]["pearson"] == pytest.approx(1)
    again = check(server.judge(), kept)
    assert (again["baseline"], again["flipped"], again["shift"], again["drifted"]) == ("compared", 0, 0, False)


def test_a_judge_that_judges_otherwise_has_drifted(server: JudgeServer, tmp_path: Path):
    kept = tmp_path / "baseline.json"
    server.say = by_people
    check(server.judge(), kept)

    def milder(body: dict[str, Any]) -> tuple[int, str]:
        said = json.loads(by_people(body)[1])
        return 200, json.dumps({"correct": said["correct"], "score": min(5, said["score"] + 1)})

    server.say = milder
    found = check(server.judge(), kept)
    assert found["flipped"] == 0 and found["shift"] > 0.25 and found["drifted"]
    server.say = lambda body: (200, '{"correct": true, "score": 3}')
    found = check(server.judge(), kept)
    assert found["flipped"] > 0.3 and found["drifted"] and found["people"]["kappa"] == pytest.approx(0)


def test_a_baseline_of_another_judge_is_refused(server: JudgeServer, tmp_path: Path):
    kept = tmp_path / "baseline.json"
    check(server.judge(), kept)
    with pytest.raises(DataError, match=r"baseline of judge-2026 .* this is other .* give another --judge-baseline"):
        check(EndpointJudge(server.url, "other"), kept)


def test_labels_are_compared_over_what_both_judged(server: JudgeServer):
    found = [verdict(server.judge(), replace(CASE, id=str(n), prediction=p), "accuracy") for n, p in enumerate("rb")]
    found = [*found, verdict(server.judge(), replace(CASE, id="2"), "accuracy")]
    made = agreement(found, {"0": {"correct": False, "score": 1}, "2": {"correct": True, "score": 5}})
    assert made["items"] == 2 and made["kappa"] == pytest.approx(1) and made["pearson"] == pytest.approx(1)


@pytest.mark.parametrize("line", ["{", '{"correct": true}', '{"id": "a", "correct": "yes"}', "[]"])
def test_labels_that_are_none_are_refused(tmp_path: Path, line: str):
    (tmp_path / "labels.jsonl").write_text(line)
    with pytest.raises(DataError, match="is no file of labels"):
        read_labels(tmp_path / "labels.jsonl")


@pytest.fixture
def judged(world: Path, tmp_path: Path, server: JudgeServer) -> Callable[..., int]:
    """`videollm eval score` of answers of which the first is wrong, with the judge; further arguments are added."""
    data = choose_item_reader(world, "openqa").read(world, ItemQuery("openqa", ("test",)))
    items = [item for item in data.items if item.references]
    rows = [{"id": i.id, "prediction": {"answer": i.references[0]}} for i in items]
    rows[0]["prediction"]["answer"] = "???"
    made = write_lines(tmp_path / "made.jsonl", rows)
    common = (
        "--task",
        "openqa",
        "--data",
        world,
        "--split",
        "test",
        "--judge",
        "judge-2026",
        "--judge-url",
        server.url,
    )

    def run(out: Path, *more: object) -> int:
        return evaluate("score", made, *common, "--out", out, "--judge-baseline", tmp_path / "base.json", *more)

    return run


def test_a_report_says_who_judged_and_how_well(judged: Callable[..., int], tmp_path: Path):
    out, labels = tmp_path / "out", tmp_path / "labels.jsonl"
    made = [json.loads(line) for line in (tmp_path / "made.jsonl").read_text().splitlines()]
    write_lines(labels, [{"id": row["id"], "correct": n > 0, "score": 5 * (n > 0)} for n, row in enumerate(made)])
    assert judged(out, "--aspects", "accuracy", "temporal", "--labels", labels) == 0
    found = report(out)
    scores, about = found["scores"], found["judge"]
    assert scores["judge_accuracy"]["value"] == pytest.approx(1 - 1 / len(made), abs=1e-6)
    assert scores["judge_accuracy"]["low"] <= scores["judge_accuracy"]["value"] and scores["judge_temporal"]["items"]
    assert about["name"] == "judge-2026" and about["drift"]["baseline"] == "made" and not about["failures"]
    assert about["prompts"] == {aspect: prompt(aspect).sha for aspect in ("accuracy", "temporal")}
    assert about["labels"]["items"] == len(made) and about["labels"]["kappa"] == pytest.approx(1)
    assert "## Judge" in (out / "report.md").read_text() and "<h2>Judge</h2>" in (out / "report.html").read_text()


def test_failures_are_told_and_never_zero(
    judged: Callable[..., int], server: JudgeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    server.say = lambda body: (200, "I think so.") if "???" in body["messages"][-1]["content"] else right(body)
    assert judged(tmp_path / "out") == 0
    found, said = report(tmp_path / "out"), capsys.readouterr().err
    assert found["scores"]["judge_accuracy"]["value"] == 1
    assert found["scores"]["judge_accuracy"]["items"] == found["data"]["asked"] - 1
    assert len(found["judge"]["failures"]) == 1 and "warning: 1 of" in said


def test_drift_is_warned_of(
    judged: Callable[..., int], server: JudgeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert judged(tmp_path / "first") == 0 and "drifted" not in capsys.readouterr().err
    server.say = wrong
    assert judged(tmp_path / "second") == 0
    assert "warning: the judge has drifted" in capsys.readouterr().err
    assert report(tmp_path / "second")["judge"]["drift"]["drifted"] is True
    assert "DRIFTED" in (tmp_path / "second" / "report.md").read_text()


def test_without_a_server_the_run_ends_in_a_line(
    judged: Callable[..., int], server: JudgeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    server.say = lambda body: (404, "")
    assert judged(tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert "answers 404" in err and err.count("\n") == 1
