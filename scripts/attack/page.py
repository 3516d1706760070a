"""Attacks on the web page, by requests that no browser sends."""

from typing import Any

import httpx

from scripts.attack.attacks import WAIT_S, Outcome, Target, attack, codes, until
from scripts.serving import MiB

JOIN = "/en/gradio_api/queue/join"
SETTINGS = ("debug", "auto", 2, 16, 0)


def visit(target: Target) -> httpx.Client:
    visitor = httpx.Client(base_url=target.url, timeout=WAIT_S)
    visitor.get("/en/").raise_for_status()
    return visitor


def join(visitor: httpx.Client, tab: Any, function: Any, *data: Any) -> httpx.Response:
    return visitor.post(JOIN, json={"session_hash": tab, "fn_index": function, "data": data})


def load_function(visitor: httpx.Client) -> int:
    """Returns the number of the function that fills a new tab."""
    return next(one["id"] for one in visitor.get("/en/config").json()["dependencies"] if one["api_name"] == "load_page")


@attack("429 beyond a few events of a tab; memory stays")
def events_that_nobody_fetches(target: Target) -> Outcome:
    visitor = visit(target)
    load, before = load_function(visitor), target.served.memory()
    answers = [join(visitor, f"tab{number % 80}", load, *SETTINGS) for number in range(80)]
    answers += [join(visitor, "one", load, *SETTINGS) for _ in range(30)]
    grown = (target.served.memory() - before) / MiB
    return Outcome(
        f"{codes(answers)}; {grown:+.0f} MiB", {a.status_code for a in answers} == {200, 429} and grown < 200
    )


@attack("a visitor's session stays")
def a_thousand_requests_without_a_cookie(target: Target) -> Outcome:
    visitor = visit(target)
    join(visitor, "stays", load_function(visitor), *SETTINGS)
    uploaded = visitor.post("/media", files={"file": ("a.mp4", (target.root / "inside/clip.mp4").read_bytes())}).json()
    with httpx.Client(base_url=target.url, timeout=WAIT_S) as strangers:
        image = strangers.get("/en/", headers={"Sec-Fetch-Dest": "image", "Sec-Fetch-Site": "cross-site"})
        opened = [strangers.get("/", headers={"Cookie": ""}).status_code for _ in range(1001)]
    kept = visitor.get(f"/media/{uploaded['name']}")
    good = kept.is_success and image.status_code == 403 and "set-cookie" not in image.headers and set(opened) == {303}
    return Outcome(f"image tag {image.status_code}, upload {kept.status_code} after 1,001 visits", good)


@attack("4xx; one's own tabs only")
def functions_and_tabs_that_are_not_ones_own(target: Target) -> Outcome:
    visitor, stranger = visit(target), visit(target)
    load = load_function(visitor)
    join(visitor, "own", load, *SETTINGS)
    answers = [join(visitor, "own", function) for function in (9999, -1, "0", None, True)]
    answers += [join(stranger, "own", load), stranger.get("/en/gradio_api/queue/data?session_hash=own")]
    answers += [join(visitor, name, load) for name in (None, "", ["a"], "a" * 99)]
    answers += [visitor.post(JOIN, content=content) for content in (b"[]", b"{", b'"' + bytes(2 * MiB) + b'"')]
    return Outcome(codes(answers), {answer.status_code // 100 for answer in answers} == {4})


@attack("one escaped line for each event")
def lines_forged_in_the_log(target: Target) -> Outcome:
    visitor, forged = visit(target), "2026-01-01 00:00:00,000 INFO serve: forged"
    sampling = f"x\n{forged}\x1b[2J{'y' * 9000}"
    join(visitor, "log", load_function(visitor), "debug", sampling, 2, 16, 0)
    logged = until(lambda: b"forged" in target.served.log.read_bytes())
    lines = target.served.log.read_text(errors="replace").splitlines()
    bad = [line for line in lines if line.startswith("2026-01-01") or "\x1b" in line or len(line) > 3000]
    return Outcome(f"{'logged' if logged else 'not logged'}, {len(bad)} bad lines", logged and not bad)


@attack("nothing of other sites; forms stay here")
def the_policy_of_the_page(target: Target) -> Outcome:
    policy = visit(target).get("/en/").headers["content-security-policy"]
    needed = ("default-src 'self'", "form-action 'self'", "base-uri 'self'", "frame-ancestors 'none'")
    rebound = httpx.get(f"{target.url}/en/", headers={"Host": "evil.example"})
    foreign = target.post(JOIN, {}, headers={"Origin": "https://evil.example"})
    good = all(part in policy for part in needed) and (rebound.status_code, foreign.status_code) == (421, 403)
    return Outcome(f"another name {rebound.status_code}, another site {foreign.status_code}", good)


ATTACKS = (
    events_that_nobody_fetches,
    a_thousand_requests_without_a_cookie,
    functions_and_tabs_that_are_not_ones_own,
    lines_forged_in_the_log,
    the_policy_of_the_page,
)
