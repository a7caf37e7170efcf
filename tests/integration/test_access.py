"""Peers and tokens on the real tables."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text

from storage.access import peers, tokens
from storage.access.peers import Peer, TextProfile
from storage.access.tokens import Role
from storage.base.errors import ImagingError, Malformed, NotFound, NotPermitted
from storage.db.engine import Engine, Session, transaction

CT01 = Peer("CT01", "10.0.0.7", 104, "Phòng CT", TextProfile.FOLD_ASCII, 32, every_station=True)


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with transaction(engine) as opened:
        yield opened


def test_peer_comes_back_as_it_was_registered(session: Session) -> None:
    peers.add(session, CT01)

    assert peers.get(session, "CT01 ") == CT01


def test_registering_again_changes_the_peer(session: Session) -> None:
    peers.add(session, CT01)
    peers.add(session, Peer(" CT01", "ct.hospital.vn", 11112))

    assert peers.list_all(session) == [Peer("CT01", "ct.hospital.vn", 11112)]


def test_peers_are_listed_by_ae_title_and_case_matters(session: Session) -> None:
    for title in ("US", "CT", "ct"):
        peers.add(session, Peer(title, "h", 104))

    assert {peer.ae_title for peer in peers.list_all(session)} == {"CT", "US", "ct"}


def test_removed_peer_is_forgotten(session: Session) -> None:
    peers.add(session, CT01)

    peers.remove(session, "CT01")

    assert peers.list_all(session) == []
    with pytest.raises(NotFound, match="'CT01'"):
        peers.get(session, "CT01")
    with pytest.raises(NotFound, match="'CT01'"):
        peers.remove(session, "CT01")


@pytest.mark.parametrize(
    ("peer", "fault"),
    [
        (Peer("A" * 17, "h", 104), "AE title"),
        (Peer("A\\B", "h", 104), "AE title"),
        (Peer("A", "", 104), "host name"),
        (Peer("A", "two words", 104), "host name"),
        (Peer("A", "h\0", 104), "host name"),
        (Peer("A", "h" * 300, 104), "host name"),
        (Peer("A", "h", 0), "0 is not a port"),
        (Peer("A", "h", 65536), "65536 is not a port"),
        (Peer("A", "h", 104, text_length=7), "7 is not a text length"),
    ],
)
def test_what_cannot_be_a_peer_is_malformed(session: Session, peer: Peer, fault: str) -> None:
    with pytest.raises(Malformed, match=fault):
        peers.add(session, peer)


@pytest.mark.parametrize("title", ["", "\0", "A\0B", "\ud800", "x" * 10_000])
def test_unreadable_title_is_no_defect(engine: Engine, title: str) -> None:
    with pytest.raises(ImagingError), transaction(engine) as session:
        peers.get(session, title)


def test_token_says_who_calls(session: Session) -> None:
    secret = tokens.create(session, Role.STATION, "Trạm y tế Phú Quý", "TYT-0712")

    caller = tokens.authenticate(session, secret)

    assert (caller.role, caller.label, caller.station) == (
        Role.STATION, "Trạm y tế Phú Quý", "TYT-0712",
    )  # fmt: skip
    assert secret.startswith(f"lt_{caller.prefix}_")


def test_secret_is_nowhere_in_the_database(session: Session) -> None:
    secret = tokens.create(session, Role.ADMIN, "")
    own_part = secret.rpartition("_")[2]

    row = session.execute(text("SELECT tokens::text FROM tokens")).scalar_one()

    assert own_part not in row
    assert own_part.encode().hex() not in row


def test_two_tokens_are_never_the_same(session: Session) -> None:
    assert len({tokens.create(session, Role.VIEWER, "") for _ in range(20)}) == 20


def hostile(secret: str) -> dict[str, str]:
    prefix, own_part = secret[:16], secret[16:]
    return {
        "empty": "",
        "prefix only": prefix,
        "other secret": prefix + own_part[::-1],
        "one character more": secret + "A",
        "one character less": secret[:-1],
        "other prefix": "lt_" + "0" * 12 + "_" + own_part,
        "newline": secret + "\n",
        "upper case": secret.upper(),
        "NUL": secret[:-1] + "\0",
        "surrogate": secret[:-1] + "\ud800",
        "long": "lt_" * 100_000,
    }


@pytest.mark.parametrize("how", hostile("x" * 59))
def test_what_is_not_the_token_is_refused_in_the_same_words(session: Session, how: str) -> None:
    secret = tokens.create(session, Role.ADMIN, "")

    with pytest.raises(NotPermitted) as refused:
        tokens.authenticate(session, hostile(secret)[how])

    assert str(refused.value) == "the bearer token is not valid"


def test_revoked_token_is_refused_like_an_unknown_one(session: Session) -> None:
    secret = tokens.create(session, Role.ADMIN, "lost")
    [token] = tokens.list_all(session)

    tokens.revoke(session, token.prefix)

    with pytest.raises(NotPermitted, match=r"^the bearer token is not valid$"):
        tokens.authenticate(session, secret)


def test_revoking_twice_keeps_the_first_time(session: Session) -> None:
    tokens.create(session, Role.ADMIN, "")
    [token] = tokens.list_all(session)

    tokens.revoke(session, token.prefix)
    [first] = tokens.list_all(session)
    tokens.revoke(session, token.prefix)

    assert first.revoked_at is not None
    assert tokens.list_all(session) == [first]


@pytest.mark.parametrize("prefix", ["", "0" * 12, "\0", "x'; --"])
def test_unknown_token_cannot_be_revoked(session: Session, prefix: str) -> None:
    with pytest.raises(NotFound):
        tokens.revoke(session, prefix)


@pytest.mark.parametrize(
    ("role", "label", "station", "fault"),
    [
        (Role.STATION, "", None, "station code"),
        (Role.ADMIN, "", "TYT", "station code"),
        (Role.STATION, "", "", "not a station code"),
        (Role.STATION, "", "a b", "not a station code"),
        (Role.STATION, "", "x" * 33, "not a station code"),
        (Role.ADMIN, "x" * 201, None, "label"),
        (Role.ADMIN, "\0", None, "label"),
    ],
)
def test_token_without_sense_is_malformed(
    session: Session, role: Role, label: str, station: str | None, fault: str
) -> None:
    with pytest.raises(Malformed, match=fault):
        tokens.create(session, role, label, station)


def test_use_is_noted_and_not_on_each_call(engine: Engine) -> None:
    with transaction(engine) as session:
        secret = tokens.create(session, Role.ADMIN, "")

    def use() -> object:
        with transaction(engine) as session:
            tokens.authenticate(session, secret)
            return tokens.list_all(session)[0].used_at

    first, second = use(), use()
    with transaction(engine) as session:
        session.execute(
            text("UPDATE tokens SET used_at = used_at - CAST(:ago AS interval)"),
            {"ago": tokens.USE_IS_NOTED_EVERY + timedelta(seconds=1)},
        )
    third = use()

    assert first is not None
    assert second == first
    assert isinstance(third, type(first))
    assert third > first  # type: ignore[operator]


def test_calls_with_one_token_do_not_wait_for_each_other(engine: Engine) -> None:
    with transaction(engine) as session:
        secret = tokens.create(session, Role.ADMIN, "")
    done = threading.Event()

    def call() -> None:
        with transaction(engine) as session:
            tokens.authenticate(session, secret)
        done.set()

    with transaction(engine) as session:
        tokens.authenticate(session, secret)
        other = threading.Thread(target=call)
        other.start()
        in_time = done.wait(2)
    other.join()

    assert in_time
