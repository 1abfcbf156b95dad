"""Accounts, tokens, sessions and the limit on log-ins, over a real index."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pacs.dicom.model import Role, Scope
from pacs.errors import Forbidden, Invalid, NotFound, PacsError, TooOften, Unauthorized, Unchangeable
from pacs.index.sqlite import SqliteIndex
from pacs.services.access import Principal, narrowed
from pacs.services.accounts import Accounts
from pacs.services.attempts import PAIR, Attempts
from pacs.services.authentication import Authentication
from pacs.services.passwords import Passwords
from pacs.services.roster import Rosters
from pacs.services.sessions import Sessions
from pacs.services.tokens import Tokens

PASSWORD = "correct horse"  # noqa: S105
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, **time: float) -> None:
        self.now += timedelta(**time)


class Quick(Passwords):
    """argon2 of the least cost: what it is good for is tested with the real one."""

    def _made(self):  # type: ignore[no-untyped-def]
        from argon2 import PasswordHasher

        return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SqliteIndex]:
    index = SqliteIndex(tmp_path / "index.sqlite")
    yield index
    index.close()


@pytest.fixture
def rosters(index: SqliteIndex) -> Rosters:
    return Rosters(index.work)


@pytest.fixture
def accounts(rosters: Rosters) -> Accounts:
    made = Accounts(rosters, Quick())
    made.add("boss", PASSWORD, Role.ADMIN)
    return made


def test_the_first_account_is_an_administrators(rosters: Rosters) -> None:
    accounts = Accounts(rosters, Quick())
    with pytest.raises(Invalid, match="first account"):
        accounts.add("alice", PASSWORD, Role.WRITER)
    accounts.add("alice", PASSWORD, Role.ADMIN)
    assert [account.name for account in accounts.all()] == ["alice"]


@pytest.mark.parametrize("name", ["", " ", "a:b", "a/b", "-a", "a b", "anonymous", "x" * 65, "a\n"])
def test_what_is_no_name_is_refused(accounts: Accounts, name: str) -> None:
    if name == "a\n":
        assert accounts.add(name, PASSWORD, Role.READER).name == "a"  # blanks around a name are typed by mistake
        return
    with pytest.raises(Invalid):
        accounts.add(name, PASSWORD, Role.READER)


def test_names_differ_in_more_than_capitals(accounts: Accounts) -> None:
    accounts.add("Alice", PASSWORD, Role.READER)
    with pytest.raises(Unchangeable):
        accounts.add("ALICE", PASSWORD, Role.READER)
    assert accounts.find("aLiCe").name == "alice"


@pytest.mark.parametrize("change", [{"role": "writer"}, {"is_disabled": True}])
def test_the_last_administrator_stays(accounts: Accounts, change: dict[str, object]) -> None:
    accounts.add("alice", PASSWORD, Role.WRITER)
    with pytest.raises(Unchangeable, match="last administrator"):
        accounts.change("boss", change)
    with pytest.raises(Unchangeable, match="last administrator"):
        accounts.remove("boss")
    accounts.change("alice", {"role": "admin"})
    accounts.change("boss", change)
    with pytest.raises(Unchangeable):
        accounts.remove("alice")


def test_of_two_administrators_who_demote_each_other_one_stays(index: SqliteIndex, accounts: Accounts) -> None:
    for attempt in range(5):
        names = [f"one{attempt}", f"two{attempt}"]
        for name in names:
            accounts.add(name, PASSWORD, Role.ADMIN)
        for account in accounts.all():
            if account.name not in names and account.role is Role.ADMIN:
                accounts.change(account.name, {"role": "reader"})
        together = threading.Barrier(2)

        def demote(name: str, together: threading.Barrier = together) -> bool:
            own = Accounts(Rosters(index.work), Quick())  # as another process has it
            together.wait()
            try:
                own.change(name, {"role": "reader"})
            except Unchangeable:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(demote, names)) == [False, True]


def test_the_only_account_can_be_removed_when_asked_for(accounts: Accounts) -> None:
    with pytest.raises(Unchangeable):
        accounts.remove("boss")
    accounts.remove("boss", even_last=True)
    assert accounts.is_empty


@pytest.mark.parametrize(
    "change",
    [{"role": "x"}, {"role": 3}, {"is_disabled": "yes"}, {"password": "short"}, {"epoch": 5}, {"modalities": "CT"},
     {"labels": [1]}, {"password": None}],
    ids=str,
)  # fmt: skip
def test_wrong_changes_are_refused_and_change_nothing(accounts: Accounts, change: dict[str, object]) -> None:
    before = accounts.find("boss")
    with pytest.raises(Invalid):
        accounts.change("boss", change)
    assert accounts.find("boss") == before


def test_limits_that_are_not_named_stay(accounts: Accounts) -> None:
    accounts.add("alice", PASSWORD, Role.READER, Scope(frozenset({"CT"}), frozenset({"study-1"})))
    changed = accounts.change("alice", {"modalities": ["MR", "CT"]})
    assert changed.scope == Scope(frozenset({"CT", "MR"}), frozenset({"study-1"}))
    assert accounts.change("alice", {"labels": None}).scope == Scope(frozenset({"CT", "MR"}))


def test_another_process_sees_changes_within_seconds(index: SqliteIndex, accounts: Accounts) -> None:
    time = [0.0]
    other = Rosters(index.work, lambda: time[0])
    assert set(other.current().accounts) == {"boss"}
    accounts.add("alice", PASSWORD, Role.READER)
    assert set(other.current().accounts) == {"boss"}
    time[0] = 2.5
    assert not other.is_fresh
    assert set(other.current().accounts) == {"boss", "alice"}


def test_a_password_is_kept_as_argon2id_only(index: SqliteIndex, rosters: Rosters) -> None:
    Accounts(rosters, Passwords()).add("boss", PASSWORD, Role.ADMIN)
    (kept,) = index.work.records("account")
    assert b"$argon2id$" in kept.content
    assert PASSWORD.encode() not in kept.content
    assert Passwords().is_right(PASSWORD, json.loads(kept.content)["password"])


# -- tokens


def test_a_token_holds_until_it_is_removed_and_only_its_hash_is_kept(index: SqliteIndex, accounts: Accounts) -> None:
    rosters = Rosters(index.work)
    tokens = Tokens(rosters)
    token, text = tokens.add("boss", "export", Role.READER)
    assert text.split("_", 2)[2].encode() not in index.work.records("token")[0].content
    found = tokens.principal(text, NOW)
    assert found is not None
    assert found[0] == Principal("boss/export", Role.READER, via="token")
    for wrong in (text[:-1] + "A", text[:-1] + "B", text.replace("pacs_", "pacs-"), "", "pacs_", text + "A"):
        assert wrong == text or tokens.principal(wrong, NOW) is None
    tokens.remove(token.token_id)
    assert tokens.principal(text, NOW) is None


def test_a_token_never_does_more_than_its_owner_may_now(rosters: Rosters, accounts: Accounts) -> None:
    tokens = Tokens(rosters)
    accounts.add("alice", PASSWORD, Role.WRITER)
    with pytest.raises(Forbidden):
        tokens.add("alice", "too much", Role.ADMIN)
    _, text = tokens.add("alice", "t", scope=Scope(frozenset({"CT", "MR"})))
    accounts.change("alice", {"role": "reader", "modalities": ["CT", "US"]})
    found = tokens.principal(text, NOW)
    assert found is not None
    assert (found[0].role, found[0].scope) == (Role.READER, Scope(frozenset({"CT"})))
    accounts.change("alice", {"is_disabled": True})
    assert tokens.principal(text, NOW) is None
    accounts.remove("alice")
    assert tokens.of() == []


def test_a_token_ends_with_its_days(rosters: Rosters, accounts: Accounts) -> None:
    tokens = Tokens(rosters)
    token, text = tokens.add("boss", "t", days=2)
    assert token.expires is not None
    assert tokens.principal(text, token.expires - timedelta(seconds=1)) is not None
    assert tokens.principal(text, token.expires) is None
    with pytest.raises(Invalid):
        tokens.add("boss", "u", days=0)


def test_the_day_of_use_is_noted_and_brings_no_removed_token_back(rosters: Rosters, accounts: Accounts) -> None:
    tokens = Tokens(rosters)
    token, _ = tokens.add("boss", "t")
    rosters.note_use(token, NOW.date())
    assert Tokens(Rosters(rosters._work)).of("boss")[0].used == NOW.date()
    stale = tokens.of("boss")[0]
    tokens.remove(token.token_id)
    rosters.note_use(stale, NOW.date() + timedelta(days=1))
    assert Tokens(Rosters(rosters._work)).of() == []


def test_only_the_owner_removes_a_token_as_its_owner(rosters: Rosters, accounts: Accounts) -> None:
    tokens = Tokens(rosters)
    token, _ = tokens.add("boss", "t")
    with pytest.raises(NotFound):
        tokens.remove(token.token_id, "alice")
    tokens.remove(token.token_id, "boss")


# -- sessions


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(rosters: Rosters, clock: Clock) -> Sessions:
    return Sessions(rosters, "secret", "salt", clock=clock)


def test_a_session_holds_for_its_account(sessions: Sessions, accounts: Accounts) -> None:
    found = sessions.read(sessions.text(sessions.begin(accounts.find("boss"))))
    assert found is not None
    assert found[1] == Principal("boss", Role.ADMIN, via="session")


@pytest.mark.parametrize(
    ("change", "where"),
    [({"n": "alice"}, "name"), ({"e": 1}, "epoch"), ({"b": 4102444800}, "time"), ({"w": "oidc", "r": 3}, "way")],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_a_changed_cookie_does_not_hold(
    sessions: Sessions, accounts: Accounts, change: dict[str, object], where: str
) -> None:
    data, _, signature = sessions.text(sessions.begin(accounts.find("boss"))).partition(".")
    content = json.loads(base64.urlsafe_b64decode(data + "=" * (-len(data) % 4))) | change
    forged = base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()
    assert sessions.read(f"{forged}.{signature}") is None, where
    for rubbish in ("", ".", data, f"{data}.", f".{signature}", f"{data}.{signature}x", "é.ü"):
        assert sessions.read(rubbish) is None


def test_a_cookie_of_another_archive_or_setting_does_not_hold(
    rosters: Rosters, accounts: Accounts, clock: Clock, sessions: Sessions
) -> None:
    account = accounts.find("boss")
    for secret, salt in (("other", "salt"), ("secret", "other"), ("", "salt")):
        assert sessions.read(Sessions(rosters, secret, salt, clock=clock).text(sessions.begin(account))) is None


@pytest.mark.parametrize(
    ("idle_steps", "step", "holds"), [(1, 61, False), (1, 59, True), (13, 55, True), (14, 55, False)]
)
def test_a_session_ends_when_idle_and_after_its_longest_time(
    sessions: Sessions, accounts: Accounts, clock: Clock, idle_steps: int, step: float, holds: bool
) -> None:
    text = sessions.text(sessions.begin(accounts.find("boss")))
    found = None
    for _ in range(idle_steps):
        clock.pass_by(minutes=step)
        found = sessions.read(text)
        renewed = sessions.renewed(found[0]) if found else None
        text = sessions.text(renewed) if renewed else text
    assert (found is not None) is holds  # 13 × 55 minutes are less than twelve hours, 14 are more


def test_a_new_cookie_is_not_made_all_the_time(sessions: Sessions, accounts: Accounts, clock: Clock) -> None:
    session = sessions.begin(accounts.find("boss"))
    clock.pass_by(minutes=5)
    assert sessions.renewed(session) is None


@pytest.mark.parametrize(
    "change", [{"password": "another one"}, {"role": "reader"}, {"is_disabled": True}, {"labels": ["x"]}], ids=str
)
def test_what_changes_an_account_ends_its_sessions(
    sessions: Sessions, accounts: Accounts, change: dict[str, object]
) -> None:
    accounts.add("alice", PASSWORD, Role.WRITER)
    text = sessions.text(sessions.begin(accounts.find("alice")))
    assert sessions.read(text) is not None
    accounts.change("alice", change)
    assert sessions.read(text) is None


def test_an_account_of_the_same_name_does_not_take_over_sessions(sessions: Sessions, accounts: Accounts) -> None:
    accounts.add("alice", PASSWORD, Role.READER)
    old = replace(sessions.begin(accounts.find("alice")), epoch=1)
    accounts.remove("alice")
    accounts.add("alice", PASSWORD, Role.ADMIN)
    assert sessions.read(sessions.text(old)) is None


def test_logging_out_ends_the_session_for_all_who_copied_its_cookie(sessions: Sessions, accounts: Accounts) -> None:
    one, other = (sessions.begin(accounts.find("boss")) for _ in range(2))
    sessions.end(one)
    assert sessions.read(sessions.text(one)) is None
    assert sessions.read(sessions.text(other)) is not None


def test_a_session_of_another_way_carries_what_it_may(sessions: Sessions, accounts: Accounts) -> None:
    principal = Principal("dr. who", Role.WRITER, Scope(frozenset({"CT"})), "oidc")
    found = sessions.read(sessions.text(sessions.begin_for(principal)))
    assert found is not None
    assert found[1] == principal  # its via too: somebody of that name elsewhere is no account here
    assert found[0].way == "oidc"


# -- passwords that are tried


@pytest.fixture
def authentication(index: SqliteIndex, rosters: Rosters, accounts: Accounts, clock: Clock) -> Authentication:
    return Authentication(rosters, Quick(), Attempts(index.work, clock), lambda: clock.now.timestamp())


def fail(authentication: Authentication, name: str, address: str) -> type[PacsError]:
    try:
        authentication.verify(name, "wrong password", address)
    except PacsError as error:
        return type(error)
    raise AssertionError("let in")


def test_wrong_passwords_make_one_wait_ever_longer_but_never_for_good(
    authentication: Authentication, clock: Clock
) -> None:
    for _ in range(PAIR.free):
        assert fail(authentication, "boss", "10.0.0.1") is Unauthorized
    waits = []
    for _ in range(12):
        with pytest.raises(TooOften) as raised:
            authentication.verify("boss", PASSWORD, "10.0.0.1")  # not even the right one
        waits.append(raised.value.retry_after_s)
        clock.pass_by(seconds=raised.value.retry_after_s)
        assert fail(authentication, "boss", "10.0.0.1") is Unauthorized
    assert waits == sorted(waits)
    assert waits[:4] == [1, 2, 4, 8]
    assert max(waits) == PAIR.longest_s
    clock.pass_by(seconds=PAIR.longest_s)
    assert authentication.verify("boss", PASSWORD, "10.0.0.1").name == "boss"


def test_tries_from_elsewhere_do_not_keep_the_owner_out(authentication: Authentication, clock: Clock) -> None:
    authentication.verify("boss", PASSWORD, "10.0.0.1")
    clock.pass_by(minutes=2)
    for number in range(40):
        fail(authentication, "boss", f"10.9.{number}.1")
    assert fail(authentication, "boss", "10.9.99.1") is TooOften  # the account's own counter
    assert authentication.verify("boss", PASSWORD, "10.0.0.1").name == "boss"


@pytest.mark.parametrize("network", ["192.0.2.7", "2001:db8::{}"])
def test_an_address_that_tries_many_names_has_to_wait(authentication: Authentication, network: str) -> None:
    kinds = [fail(authentication, f"name{number}", network.format(number)) for number in range(35)]
    assert kinds[:30] == [Unauthorized] * 30
    assert kinds[-1] is TooOften


def test_many_tries_at_once_count_as_many(index: SqliteIndex, rosters: Rosters, accounts: Accounts) -> None:
    clock = Clock()
    others = [Authentication(Rosters(index.work), Quick(), Attempts(index.work, clock)) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        kinds = list(pool.map(lambda number: fail(others[number % 4], "boss", "10.0.0.1"), range(24)))
    assert kinds.count(Unauthorized) == PAIR.free


def test_a_verified_password_is_remembered_until_the_account_changes(
    authentication: Authentication, accounts: Accounts, clock: Clock
) -> None:
    assert authentication.remembered("boss", PASSWORD) is None
    authentication.verify("Boss", PASSWORD, "10.0.0.1")
    assert authentication.remembered("boss", PASSWORD) is not None
    assert authentication.remembered("boss", "wrong password") is None
    accounts.change("boss", {"password": "another one"})
    assert authentication.remembered("boss", PASSWORD) is None
    authentication.verify("boss", "another one", "10.0.0.1")
    clock.pass_by(seconds=61)
    assert authentication.remembered("boss", "another one") is None


def test_a_disabled_account_is_refused_like_one_that_is_not_there(
    authentication: Authentication, accounts: Accounts
) -> None:
    accounts.add("alice", PASSWORD, Role.READER)
    accounts.change("alice", {"is_disabled": True})
    messages = set()
    for name in ("alice", "nobody"):
        with pytest.raises(Unauthorized) as raised:
            authentication.verify(name, PASSWORD, "10.0.0.1")
        messages.add(str(raised.value))
    assert len(messages) == 1


def test_what_lies_in_both_scopes() -> None:
    everything, some = Scope(), Scope(frozenset({"CT", "MR"}), None, frozenset({"1.2"}))
    assert narrowed(everything, some) == narrowed(some, everything) == some
    assert narrowed(some, Scope(frozenset({"US"}), frozenset({"x"}))) == Scope(
        frozenset(), frozenset({"x"}), frozenset({"1.2"})
    )
