"""Sessions of the page: what each uploads is its own, and is deleted with it."""

from pathlib import Path

import httpx
import pytest

from serve.api.errors import APIError
from serve.config import Limits
from serve.runtime.files import FileStore, StoredFile
from serve.security.auth import ApiKeys
from serve.web.history import History
from serve.web.sessions import MAX_SESSIONS, MAX_TABS, PageSession, PageSessions
from tests.serve.conftest import SAMPLE, Server, Start

LASTS_S = 60.0
KEY = "first-key-0123456789"
OTHER = "second-key-0123456789"
(HOLDER,) = ApiKeys((KEY,)).owners


class Clock:
    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


class Place:
    """Sessions and their files, which a clock of the test's own ends."""

    def __init__(self, folder: Path):
        self.clock = Clock()
        self.files = FileStore(folder, Limits(file_s=LASTS_S), self.clock)
        self.history = History(folder / "state")
        self.sessions = self.started_anew()

    def started_anew(self, *keys: str) -> PageSessions:
        return PageSessions(self.files, self.history, ApiKeys(keys or (KEY,)), LASTS_S, self.clock)

    def enter(self) -> tuple[str, PageSession]:
        token = self.sessions.open(HOLDER)
        session = self.sessions.get(token)
        assert session
        return token, session

    def upload(self, session: PageSession) -> StoredFile:
        file = self.files.receive(session.owner)
        file.write(b"video")
        return file.keep("a.mp4", "user_data")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_sessions_of_one_key_do_not_see_each_others_uploads(place: Place):
    (_, one), (_, other) = place.enter(), place.enter()
    file = place.upload(one)
    assert place.files.get(one.owner, file.id).path.read_bytes() == b"video"
    assert place.files.owned_by(other.owner) == []
    with pytest.raises(APIError) as refused:
        place.files.get(other.owner, file.id)
    assert refused.value.status == 404
    place.sessions.claim(one, "tab")
    with pytest.raises(APIError, match="no such page"):
        place.sessions.claim(other, "tab")


def test_uploads_go_after_their_time_even_while_nobody_comes(place: Place):
    token, session = place.enter()
    file = place.upload(session)
    place.clock.s += LASTS_S - 1
    place.sessions.expire()
    assert file.path.exists() and place.sessions.get(token) is session  # which is a use of it
    place.clock.s += 1
    assert place.files.owned_by("") == [] and not file.path.exists()  # the server does this at intervals too
    assert place.sessions.get(token) is session
    place.clock.s += LASTS_S
    place.sessions.expire()
    assert place.sessions.get(token) is None


def test_what_a_session_uploaded_goes_with_it(place: Place):
    (token, session), (_, other) = place.enter(), place.enter()
    file, kept = place.upload(session), place.upload(other)
    place.sessions.close("no such token")
    place.sessions.close(token)
    assert not file.path.exists() and kept.path.exists()
    assert place.sessions.get(token) is None
    assert kept.path.exists()


def test_visitors_without_a_page_end_no_session_that_has_one(place: Place):
    (token, session), (unused, _) = place.enter(), place.enter()
    place.sessions.claim(session, "tab")
    for _ in range(MAX_SESSIONS):
        place.sessions.open(HOLDER)
    assert place.sessions.get(token) is session and place.sessions.get(unused) is None


def test_a_key_ends_its_own_sessions_and_tabs_only(place: Place):
    ended: list[str] = []
    place.sessions = PageSessions(place.files, place.history, ApiKeys((KEY, OTHER)), drop_tab=ended.append)
    (*_, other) = ApiKeys((KEY, OTHER)).owners - {HOLDER}
    token, session = place.enter()
    place.sessions.claim(session, "first")
    fresh = ""
    for number in range(MAX_SESSIONS + 1):
        fresh = place.sessions.open(other)
        found = place.sessions.get(fresh)
        assert found
        if number < MAX_TABS:
            place.sessions.claim(found, f"tab{number}")
    assert place.sessions.get(token) is session and not ended
    assert found and place.sessions.get(fresh) is found  # the newest is in
    place.sessions.claim(found, "more")
    assert ended == ["tab0"] and list(session.tabs) == ["first"]
    with session.tabs["first"].connected():
        for number in range(MAX_TABS):
            place.sessions.claim(session, f"own{number}")
    assert "first" in session.tabs and ended == ["tab0", "own0"]
    place.sessions.close(token)
    assert len(ended) == 2 + MAX_TABS


def test_a_session_outlives_the_server_but_not_its_key(place: Place):
    token, session = place.enter()
    place.sessions.claim(session, "tab")
    again = place.started_anew().get(token)
    assert again is not None and (again.owner, again.key, again.reader) == (session.owner, HOLDER, HOLDER)
    assert place.started_anew("another-key-0123456789").get(token) is None


@pytest.fixture(scope="module")
def brief(start: Start, tmp_path_factory: pytest.TempPathFactory) -> tuple[Server, Path]:
    """A server that keeps uploads for a second, and the folder where it keeps them."""
    folder = tmp_path_factory.mktemp("temporary")
    return start("--model", "debug", "--file-s", "1", TMPDIR=str(folder)), folder


def stored(folder: Path) -> list[Path]:
    return list(folder.glob("videollm-serve-*/files/*"))


def test_the_server_deletes_uploads_after_their_time(brief: tuple[Server, Path]):
    server, folder = brief
    with httpx.Client(base_url=server.url) as visitor:
        assert visitor.get("/en/").status_code == 200
        (name,) = visitor.post("/media", files={"file": ("a.mp4", SAMPLE.read_bytes())}).json().values()
        assert [path.name for path in stored(folder)] == [name]
        (own,) = folder.glob("videollm-serve-*")
        assert own.stat().st_mode & 0o077 == 0  # nobody else on this machine gets in
        while (answer := visitor.get(f"/media/{name}")).status_code == 200:
            assert answer.content == SAMPLE.read_bytes()
        assert answer.status_code in (401, 404) and stored(folder) == []  # 401: the session has ended with it
