"""The station's own copy: encrypted, without a line, and with 124 of them on thin lines."""

import hashlib
import json
import random
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from deploy.commands import station_client
from deploy.station_client.client import API as CLIENT_API
from deploy.station_client.client import Client, DeviceKey, Issued
from deploy.station_client.vault import Vault
from deploy.station_client.wire import Answer, Ask, HttpWire, Sink
from ris.releases import receipts
from ris.reports.model import Report
from ris.stations import consents
from ris.stations.consents import Consent
from storage.access import stations
from storage.access.tokens import Role
from storage.base.errors import NotFound, NotPermitted, PeerUnavailable, StoreUnavailable
from storage.db.engine import transaction
from tests.fixtures.stations import Province
from tests.fixtures.thin_line import Clock, ThinLine

KEY = bytes(range(32))
CODE = "68001"
DAY_S = 86_400


class Cut:
    """A line that breaks at the given requests, counted from 1, after some bytes of the answer."""

    def __init__(self, url: str, cuts: dict[int, int]) -> None:
        self.inner, self.cuts = HttpWire(url), cuts
        self.asked: list[Ask] = []

    def ask(self, ask: Ask, sink: Sink | None = None) -> Answer:
        self.asked.append(ask)
        cut = self.cuts.get(len(self.asked))
        if cut is None:
            return self.inner.ask(ask, sink)
        pieces: list[bytes] = []
        self.inner.ask(ask, pieces.append if sink else None)
        if sink is not None:
            sink(b"".join(pieces)[:cut])
        raise PeerUnavailable("cut")


def copy_of(path: Path, secret: str | bytes = KEY, *, careless: bool = False) -> Vault:
    vault = Vault(path, secret)
    if careless:  # a simulated power never fails
        vault._database.execute("PRAGMA synchronous = OFF")  # noqa: SLF001
    return vault


def client_of(province: Province, path: Path, wire: object = None, code: str = CODE) -> Client:
    token = province.node.token(Role.STATION, code)
    line = wire or HttpWire(province.node.url)
    return Client(copy_of(path), line, Issued(token))  # type: ignore[arg-type]


@pytest.fixture
def signed(province: Province) -> Report:
    province.station(CODE)
    return province.signed(province.order(province.patient(), CODE), size=20_000)


def test_a_copy_is_whole_and_nothing_of_it_can_be_read(
    province: Province, signed: Report, tmp_path: Path
) -> None:
    client = client_of(province, tmp_path / "copy.db")

    done = client.sync()

    assert (done.changes, done.texts, done.papers, done.whole) == (1, 1, 1, True)
    [found] = client.find("nguyen an")
    assert found.text is not None
    assert found.text["conclusion"].startswith("Hiện không thấy")
    paper = client.paper(found.id)
    assert hashlib.sha256(paper).hexdigest() == found.paper_sha256
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("copy.db*"))
    for text in ("NGUYỄN", "BN1", "nhu mô", "%PDF", "CLVT"):
        assert text.encode() not in kept
        assert json.dumps(text).strip('"').encode() not in kept
    assert signed.uid == found.id


def test_a_copy_opens_with_its_own_secret_only(tmp_path: Path) -> None:
    copy_of(tmp_path / "copy.db", "mật khẩu của trạm").close()

    copy_of(tmp_path / "copy.db", "mật khẩu của trạm").close()
    for wrong in ("mật khẩu khác", KEY):
        with pytest.raises(NotPermitted):
            copy_of(tmp_path / "copy.db", wrong)


def test_a_value_that_is_moved_to_another_row_cannot_be_read(
    province: Province, signed: Report, tmp_path: Path
) -> None:
    province.signed(province.order(province.patient("BN2", "TRẦN^THỊ Ỷ"), CODE))
    client = client_of(province, tmp_path / "copy.db")
    client.sync()
    with sqlite3.connect(tmp_path / "copy.db") as database:
        item = database.execute("SELECT item FROM reports WHERE id = ?", (signed.uid,)).fetchone()
        database.execute("UPDATE reports SET item = ?", item)
    database.close()

    with pytest.raises(NotPermitted):
        client.find("")


def test_papers_go_on_where_the_line_broke(
    province: Province, signed: Report, tmp_path: Path
) -> None:
    wire = Cut(province.node.url, {3: 7000, 5: 9000})  # feed, text, paper ✂, feed, paper ✂
    client = client_of(province, tmp_path / "copy.db", wire)

    first, second, third = client.sync(), client.sync(), client.sync()

    assert [one.whole for one in (first, second, third)] == [False, False, True]
    ranges = [one.headers["Range"] for one in wire.asked if "Range" in one.headers]
    assert ranges == ["bytes=7000-", "bytes=16000-"]
    assert client.paper(signed.uid).startswith(b"%PDF")
    assert third.papers == 1


def test_what_was_done_without_a_line_is_sent_once_when_it_is_back(
    province: Province, signed: Report, tmp_path: Path
) -> None:
    client_of(province, tmp_path / "copy.db").sync()
    wire = Cut(province.node.url, {1: 0, 2: 0})  # sent, and the answers were lost
    client = client_of(province, tmp_path / "copy.db", wire)
    client.note(signed.uid, "printed", "Lan")
    referral = {"patient": {"name": "LÊ VĂN BA", "birth_date": "1950"}, "reason": "Ho"}
    client.refer(referral)

    results = [client.sync().whole for _ in range(4)]

    assert results[-1] is True
    assert client.vault.outbox() == []
    with transaction(province.engine) as session:
        kinds = [one.kind for one in receipts.of_report(session, signed.uid)]
    assert sorted(kinds) == ["delivered", "printed"]
    sent = province.clients[CODE].get(f"{CLIENT_API}/referrals").json()
    assert [one["content"]["patient"]["name"] for one in sent] == ["LÊ VĂN BA"]


def test_what_the_server_refuses_waits_for_a_person_and_holds_nothing_up(
    province: Province, signed: Report, tmp_path: Path
) -> None:
    client = client_of(province, tmp_path / "copy.db")
    key = client.refer({"patient": {}})

    assert client.sync().whole is True

    [letter] = client.vault.outbox()
    assert (letter.key, letter.refused) == (key, "HTTP 422")
    assert client.get(signed.uid).paper_sha256


def test_a_copy_is_deleted_when_the_basis_is_gone_and_the_server_learns_it(
    province: Province, tmp_path: Path
) -> None:
    province.station(CODE)
    patient = province.patient()
    report = province.signed(province.order(patient))
    with transaction(province.engine) as session:
        station = province.stations[CODE].id
        given = Consent(patient_id=patient, station_id=station, via="written", evidence="p")
        uid = consents.give(session, given, "admin").uid
    client = client_of(province, tmp_path / "copy.db")
    client.sync()
    assert client.get(report.uid).text is not None
    with transaction(province.engine) as session:
        consents.withdraw(session, uid, "admin")

    assert client.sync().deleted == 1

    assert client.vault.copies() == []
    with pytest.raises(NotFound):
        client.paper(report.uid)
    with transaction(province.engine) as session:
        kinds = [str(one.kind) for one in receipts.of_report(session, report.uid)]
    assert kinds == ["delivered", "deleted"]


def test_copies_do_not_outlive_what_the_server_lets_them(
    province: Province, signed: Report, tmp_path: Path
) -> None:
    clock = Clock(time.time())
    token = Issued(province.node.token(Role.STATION, CODE))
    client = Client(copy_of(tmp_path / "copy.db"), HttpWire(province.node.url), token, clock)
    client.sync()
    assert client.get(signed.uid)

    clock.now += 91 * DAY_S
    Client(client.vault, Cut(province.node.url, {1: 0}), token, clock).sync()

    assert client.vault.copies() == []


@pytest.mark.parametrize("years", [-20, 20])
def test_copies_stay_when_a_wrong_clock_is_set_right(
    province: Province, signed: Report, tmp_path: Path, years: int
) -> None:
    clock = Clock(time.time() + years * 365 * DAY_S)
    token = Issued(province.node.token(Role.STATION, CODE))
    client = Client(copy_of(tmp_path / "copy.db"), HttpWire(province.node.url), token, clock)
    client.sync()

    clock.now = time.time()
    client.sync()

    assert client.get(signed.uid).paper_sha256
    clock.now += 91 * DAY_S
    Client(client.vault, Cut(province.node.url, {1: 0}), token, clock).sync()
    assert client.vault.copies() == [], "and they are not kept for years"


def test_copies_that_a_jump_of_the_clock_took_come_back(
    province: Province, signed: Report, tmp_path: Path
) -> None:
    clock = Clock(time.time() - 10 * 365 * DAY_S)
    token = Issued(province.node.token(Role.STATION, CODE))
    client = Client(copy_of(tmp_path / "copy.db"), HttpWire(province.node.url), token, clock)
    client.sync()
    clock.now = time.time()  # set right while there is no line
    Client(client.vault, Cut(province.node.url, {1: 0}), token, clock).sync()

    client.sync()

    assert client.get(signed.uid).paper_sha256


class Saying:
    """A line on which something else answers the requests that a rule names."""

    def __init__(self, url: str, rule: Callable[[Ask], Answer | None]) -> None:
        self.inner, self.rule = HttpWire(url), rule

    def ask(self, ask: Ask, sink: Sink | None = None) -> Answer:
        return self.rule(ask) or self.inner.ask(ask, sink)


def test_one_paper_that_is_not_to_be_had_keeps_no_other_away(
    province: Province, signed: Report, tmp_path: Path
) -> None:
    other = province.signed(province.order(province.patient("BN2", "TRẦN^THỊ Ỷ"), CODE))

    def broken(ask: Ask) -> Answer | None:
        lost = ask.path.startswith(f"{CLIENT_API}/reports/{other.uid}/pdf")
        return Answer(status=503, headers={}) if lost else None

    client = client_of(province, tmp_path / "copy.db", Saying(province.node.url, broken))

    done = client.sync()

    assert (done.whole, done.papers) == (False, 1)
    assert client.get(signed.uid).paper_sha256
    assert client_of(province, tmp_path / "copy.db").sync().papers == 1


@pytest.mark.parametrize("status", [403, 404, 410, 502])
def test_what_something_else_on_the_line_says_deletes_nothing(
    province: Province, signed: Report, tmp_path: Path, status: int
) -> None:
    client_of(province, tmp_path / "copy.db").sync()
    page = Answer(status=status, headers={"content-type": "text/html"}, body=b"<html>")
    client = client_of(province, tmp_path / "copy.db", Saying(province.node.url, lambda _: page))
    client.note(signed.uid, "printed")

    assert client.sync().whole is False

    assert client.get(signed.uid).paper_sha256
    assert [one.refused for one in client.vault.outbox()] == [""]


def test_report_that_is_gone_before_its_text_came_is_told_as_deleted(
    province: Province, signed: Report, tmp_path: Path
) -> None:
    client_of(province, tmp_path / "copy.db", Cut(province.node.url, {2: 0})).sync()
    head = {"content-type": "application/problem+json"}

    def gone(ask: Ask) -> Answer | None:
        is_text = ask.path.startswith(f"{CLIENT_API}/reports/{signed.uid}?")
        return Answer(status=404, headers=head) if is_text else None

    client = client_of(province, tmp_path / "copy.db", Saying(province.node.url, gone))
    client.sync()

    assert client.vault.copies() == []
    with transaction(province.engine) as session:
        assert [one.kind for one in receipts.of_report(session, signed.uid)] == ["deleted"]


def test_a_full_disk_is_told_and_what_has_arrived_stays(
    province: Province, signed: Report, tmp_path: Path
) -> None:
    client = client_of(province, tmp_path / "copy.db")
    database = client.vault._database  # noqa: SLF001 - a disk that is full
    [[pages]] = database.execute("PRAGMA page_count").fetchall()
    database.execute(f"PRAGMA max_page_count = {pages + 3}")

    with pytest.raises(StoreUnavailable, match="full"):
        client.sync()

    assert client.vault.get("cursor")
    database.execute("PRAGMA max_page_count = 100000")
    assert client.sync().whole is True
    assert client.get(signed.uid).paper_sha256


@pytest.mark.parametrize(
    ("status", "error"), [(503, PeerUnavailable), (429, PeerUnavailable), (401, NotPermitted)]
)
def test_a_server_that_is_not_ready_shuts_no_device_out(
    province: Province, status: int, error: type[Exception]
) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    head = {"content-type": "application/problem+json"}

    def busy(ask: Ask) -> Answer | None:
        return Answer(status=status, headers=head) if ask.path.endswith("/token") else None

    credentials = DeviceKey("0" * 32, ec.generate_private_key(ec.SECP256R1()), province.node.url)

    with pytest.raises(error):
        credentials.token(Saying(province.node.url, busy))


def test_a_wiped_station_has_nothing_left(
    province: Province, signed: Report, tmp_path: Path
) -> None:
    client = client_of(province, tmp_path / "copy.db")
    client.sync()
    client.note(signed.uid, "read")
    with transaction(province.engine) as session:
        stations.wipe(session, CODE)

    assert client.sync().wiped is True

    assert client.vault.copies() == client.vault.outbox() == []
    with transaction(province.engine) as session:
        stations.restore(session, CODE)
    assert client.sync().changes == 1


def test_a_device_with_a_clock_of_the_last_century_signs_in(
    province: Province, signed: Report, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    from storage.access import assertions, devices  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    with transaction(province.engine) as session:
        device = devices.add(session, CODE, "PC", assertions.pem_of(key.public_key()))
    credentials = DeviceKey(device.uid, key, province.node.url)
    wire = HttpWire(province.node.url)
    client = Client(copy_of(tmp_path / "copy.db"), wire, credentials, Clock(0.0))

    assert client.sync().whole is True

    with transaction(province.engine) as session:
        [receipt] = receipts.of_report(session, signed.uid)
    assert abs(receipt.happened_at.timestamp() - time.time()) < 60


class Year:
    """What the stations are to have, told apart from the product, day by day."""

    def __init__(self, province: Province, codes: list[str], chance: random.Random) -> None:
        self.province, self.codes, self.chance = province, codes, chance
        self.entitled: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self.ever: defaultdict[str, set[tuple[str, int]]] = defaultdict(set)
        self.reports: dict[str, Report] = {}
        self.consents: dict[str, tuple[str, str]] = {}

    def day(self, number: int) -> None:
        for count in range(6):
            self._sign(f"BN{number * 100 + count + 10}", count)
        for uid in self.chance.sample(sorted(self.reports), min(2, len(self.reports))):
            self._correct(uid)
        if self.reports and number % 2:
            self._retract(self.chance.choice(sorted(self.reports)))
        if self.consents and number % 3 == 0:
            self._withdraw(self.chance.choice(sorted(self.consents)))

    def _sign(self, patient_id: str, count: int) -> None:
        patient = self.province.patient(patient_id)
        sender = self.chance.choice(self.codes)
        order = self.province.order(patient, sender)
        self._allow([sender], self._signed(order), 1)
        if count % 3 == 0:
            self._consent(patient, self.chance.choice(self.codes))

    def _signed(self, order: int) -> Report:
        report = self.province.signed(order)
        self.reports[report.uid] = report
        return report

    def _consent(self, patient: int, code: str) -> None:
        report = [*self.reports.values()][-1]
        station = self.province.stations[code].id
        given = Consent(patient_id=patient, station_id=station, via="written", evidence="p")
        with transaction(self.province.engine) as session:
            uid = consents.give(session, given, "admin").uid
        if report.uid not in self.entitled[code]:  # else the referral shows it anyway
            self.consents[uid] = (code, report.uid)
        self._allow([code], report, 1)

    def _withdraw(self, uid: str) -> None:
        code, report = self.consents.pop(uid)
        with transaction(self.province.engine) as session:
            consents.withdraw(session, uid, "admin")
        self.entitled[code].pop(report, None)

    def _correct(self, uid: str) -> None:
        report = self.province.correct(self.reports[uid], f"Đính chính {self.chance.random()}")
        self.province.document(report)
        self.reports[uid] = report
        holders = [code for code in self.codes if uid in self.entitled[code]]
        self._allow(holders, report, report.version)

    def _retract(self, uid: str) -> None:
        self.province.retract(self.reports.pop(uid))
        for held in self.entitled.values():
            held.pop(uid, None)
        self.consents = {key: one for key, one in self.consents.items() if one[1] != uid}

    def _allow(self, codes: list[str], report: Report, version: int) -> None:
        for code in codes:
            self.entitled[code][report.uid] = version
            self.ever[code].add((report.uid, version))


class Stations:
    """Every station's copy, each on a thin line of its own."""

    def __init__(self, province: Province, codes: list[str], chance: random.Random) -> None:
        self.province, self.chance, self.began = province, chance, time.time()
        self.folder = province.node.settings.data_dir
        self.lines: dict[str, ThinLine] = {}
        self.clients: dict[str, Client] = {}
        province.register(*codes)
        for code in codes:
            line = ThinLine(HttpWire(province.node.url), Clock(self.began), chance)
            token = Issued(province.node.token(Role.STATION, code))
            vault = copy_of(self.folder / f"{code}.db", careless=True)
            self.lines[code], self.clients[code] = line, Client(vault, line, token, line.clock)

    def day(self, number: int) -> None:
        """Sync the stations that are on today; most are off, some for days."""
        for code, client in self.clients.items():
            clock = self.lines[code].clock
            clock.now = max(clock.now, self.began + number * DAY_S)
            if self.chance.random() < 0.3:
                client.sync()

    def catch_up(self) -> None:
        for client in self.clients.values():
            while not client.sync().whole:
                pass

    def figures(self) -> dict[str, float]:
        lines = self.lines.values()
        seconds = sorted(one for line in lines for one in line.seconds)
        return {
            "requests": sum(line.requests for line in lines),
            "broken": sum(line.broken for line in lines),
            "kilobytes": sum(line.carried for line in lines) // 1000,
            "p50_s": round(seconds[len(seconds) // 2], 1),
            "p90_s": round(seconds[int(len(seconds) * 0.9)], 1),
        }


def check_copy(client: Client, entitled: dict[str, int], ever: set[tuple[str, int]]) -> None:
    """Compare a copy with what it is to have: all of it, once, and nothing that never was its."""
    copies, arrivals = client.vault.copies(), client.vault.arrivals()
    assert {one.id: one.version for one in copies} == entitled
    assert len(arrivals) == len({*arrivals})
    assert {(one.id, one.version) for one in copies} <= {*arrivals} <= ever
    assert client.vault.outbox() == []
    for one in copies:
        assert one.text is not None
        assert one.text["version"] == one.version
        assert hashlib.sha256(client.paper(one.id)).hexdigest() == one.paper_sha256


@pytest.mark.slow
def test_124_stations_on_thin_lines_get_every_report_once_and_nothing_else(
    province: Province,
) -> None:
    chance = random.Random(20261126)
    codes = [f"68{number:03}" for number in range(1, 125)]
    around = Stations(province, codes, chance)
    year = Year(province, codes, chance)
    began = time.process_time()

    for number in range(5):
        year.day(number)
        around.day(number)
    around.catch_up()

    for code, client in around.clients.items():
        check_copy(client, year.entitled[code], year.ever[code])
    figures = around.figures()
    cpu_ms = 1000 * (time.process_time() - began) / figures["requests"]
    print(f"{figures}, {cpu_ms:.1f} ms of processor a request, both ends and the hospital's work")
    assert figures["broken"] > 10
    assert cpu_ms < 100


def test_the_program_keeps_a_copy(
    province: Province, signed: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIENTHONG_STATION_FOLDER", str(tmp_path / "station"))
    token = province.node.token(Role.STATION, CODE)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(station_client.app, arguments)

    key = run("init", province.node.url)
    early = run("sync")
    run("register", "--token", token)
    synced = run("sync")
    paper = run("pdf", signed.uid[:8], "--printed")
    shown = run("find", "NGUYEN").stdout + run("show", signed.uid[:8]).stdout

    assert key.stdout.startswith("-----BEGIN PUBLIC KEY-----")
    assert isinstance(early.exception, NotFound)
    assert synced.exit_code == 0, synced.output
    assert "NGUYỄN VĂN AN" in shown
    assert "Hiện không thấy tổn thương" in shown
    assert Path(paper.stdout.strip()).read_bytes().startswith(b"%PDF")
    assert Path(paper.stdout.strip()).stat().st_mode & 0o777 == 0o600
