"""DCMTK's findscu and dicomweb-client get the answers that a reading of the files gives.

The shared files, and some with Vietnamese names, go into a running server by DCMTK's
storescu; generated queries go out over both wires; `tests.fixtures.oracle` knows the answers.
"""

import random
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import pytest
from dicomweb_client import DICOMwebClient
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pynetdicom import AE
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
)
from requests import Session

from tests.fixtures import oracle
from tests.fixtures.dcmtk import dcmtk, needs_dcmtk, send_each_as_it_is
from tests.fixtures.dicom_files import SHARED_SET, ct_slice, part10_file, shared_files
from tests.fixtures.oracle import KEYS, LEVELS, UNIQUE, Entity, Files
from tests.fixtures.serving import Serving

pytestmark = [
    pytest.mark.interop,
    pytest.mark.slow,
    needs_dcmtk,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
    pytest.mark.skipif(not SHARED_SET.is_dir(), reason="the shared DICOM files are not there"),
]

SEED: Final = 20260301
FIND_QUERIES: Final = 14
"""For each level of each root."""
QIDO_QUERIES: Final = 28
"""For each level."""
ROOTS: Final = {
    "-P": PatientRootQueryRetrieveInformationModelFind,
    "-S": StudyRootQueryRetrieveInformationModelFind,
}
MODELS: Final = [(root, level) for root in ROOTS for level in LEVELS if root + level != "-SPATIENT"]
VIETNAMESE: Final = (
    *("NGUYỄN^VĂN AN", "Nguyễn^Thị^Ánh", "TRẦN^NGUYÊN KHÁNH", "ĐỖ^QUANG ĐẠI", "NGUY^VAN ANH"),
    "Lê^An^Nguyễn",
)


@dataclass(frozen=True)
class Asked:
    """One generated query."""

    level: str
    keys: dict[str, str]
    fuzzy: bool = False
    wanted: Entity | None = field(default=None, compare=False, repr=False)
    """What it was made for."""
    kinds: set[str] = field(default_factory=set, compare=False)


@dataclass
class Archive:
    """A running server, and the files that are in it."""

    server: Serving
    files: Files
    web: DICOMwebClient


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp("oracle")
    candidates = [*vietnamese(folder), *(one.path for one in shared_files())]
    server = Serving(folder)
    try:
        server.start()
        answers = send_each_as_it_is(server.dicom_port, folder, read(candidates).paths.values())
        assert set(answers.values()) == {"Success"}, Counter(answers.values())
        files = read(path for path in candidates if str(path) in answers)  # some it cannot send
        with server.client() as client, Session() as session:
            wait_until_found(client, len(files.paths))
            session.headers["Authorization"] = client.headers["Authorization"]
            yield Archive(server, files, DICOMwebClient(f"{server.url}/dicom-web", session=session))
    finally:
        server.stop()


def read(paths: Iterable[Path]) -> Files:
    files = Files()
    for path in paths:
        files.add(path)
    return files


def vietnamese(folder: Path) -> Iterator[Path]:
    for number, name in enumerate(VIETNAMESE):
        for modality in ("CT", "SR")[: 1 + number % 2]:
            path = folder / f"{number}{modality}.dcm"
            uid = f"2.25.77.{number}"
            path.write_bytes(
                part10_file(
                    ct_slice(
                        PatientName=name,
                        PatientID=f"BN{number}",
                        StudyInstanceUID=uid,
                        SeriesInstanceUID=f"{uid}.{len(modality)}.{ord(modality[0])}",
                        Modality=modality,
                        StudyTime=f"{number:02}30{number:02}",
                    )
                )
            )
            yield path


def wait_until_found(client: httpx.Client, count: int) -> None:
    """Wait until so many instances are found, and no more."""
    deadline = time.monotonic() + 120
    last = {"limit": 1, "offset": count - 1}
    while not (page := client.get("/dicom-web/instances", params=last)).content:
        assert page.is_success
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert not client.get("/dicom-web/instances", params={"limit": 1, "offset": count}).content


# Generated queries


def queries(files: Files, level: str, count: int, chance: random.Random) -> Iterator[Asked]:
    """Yield queries that are likely to match something, and often others or nothing."""
    upper = LEVELS[: LEVELS.index(level) + 1]
    entities = [*files.of(level)]
    for _ in range(count):
        wanted = chance.choice(entities)
        fuzzy = chance.random() < 0.25
        names = {
            chance.choice(KEYS[chance.choice(upper)]) for _ in range(chance.choice((1, 1, 2, 3)))
        }
        names = {name for name in names if wanted.values(name) != {""} or chance.random() < 0.1}
        if fuzzy or not names or chance.random() < 0.2:
            names.add("PatientName")
        asked = Asked(level, {}, fuzzy, wanted)
        for name in sorted(names):
            asked.keys[name] = key_for(name, wanted, chance.choice(entities), chance, asked)
        yield asked


def key_for(
    keyword: str, wanted: Entity, other: Entity, chance: random.Random, asked: Asked
) -> str:
    """Return a key that `wanted` may match; note its kind."""
    value, another = (chance.choice(sorted(one.values(keyword))) for one in (wanted, other))
    kind = dictionary_VR(keyword)
    if not value or chance.random() < 0.06:
        asked.kinds.add("universal")
        return chance.choice(["", "*"]) if kind not in {"UI", "DA", "TM", "IS", "US"} else ""
    if kind == "UI":
        return listed(value, another, chance, asked)
    if kind in {"DA", "TM"}:
        return ranged(value, another, chance, asked)
    if kind == "PN":
        return name_key(value, chance, asked)
    if keyword in {"ModalitiesInStudy", "ImageType"}:
        value = chance.choice([one for one in value.split("\\") if one])
    return text_key(value, another, chance, asked, wild=kind not in {"IS", "US"})


def listed(value: str, another: str, chance: random.Random, asked: Asked) -> str:
    if chance.random() < 0.4:
        asked.kinds.add("single")
        return value
    asked.kinds.add("UID list")
    return "\\".join(dict.fromkeys([value, another or "1.2.3", "1.2.3.4"]))


def ranged(value: str, another: str, chance: random.Random, asked: Asked) -> str:
    value = value.partition(".")[0]
    low, high = sorted((value, another.partition(".")[0] or value))
    key = chance.choice([low, f"{low}-{high}", f"{low}-", f"-{high}", f"-{low}"])
    asked.kinds.add("range" if "-" in key else "single")
    return key


def name_key(value: str, chance: random.Random, asked: Asked) -> str:
    words = oracle.fold(value).split()
    if asked.fuzzy:
        asked.kinds.add("fuzzy name")
        return " ".join(word[: chance.randint(1, 4)] for word in words).lower()
    chance.shuffle(words)
    kind, key = chance.choice(
        [
            ("folded name", " ".join(words).lower()),
            ("folded name", chance.choice(words)),
            ("single", value.split("=", maxsplit=1)[0]),
            ("wildcard", f"{oracle.fold(value)[:3]}*"),
            ("wildcard", f"*{words[-1][-2:]}*"),
            ("multi-valued", f"{words[0]}\\NGUYEN"),
        ]
    )
    asked.kinds.add(kind)
    return key


def text_key(value: str, another: str, chance: random.Random, asked: Asked, *, wild: bool) -> str:
    middle = len(value) // 2
    kind, key = chance.choice(
        [
            ("single", value),
            ("multi-valued", f"{value}\\{another}" if another else f"{value}\\1"),
            ("wildcard", f"{value[: middle + 1]}*"),
            ("wildcard", f"*{value[middle:]}"),
            ("wildcard", f"{value[:middle]}?{value[middle + 1 :]}"),
            ("single", value.swapcase()),
        ][: None if wild else 2]
    )
    asked.kinds.add(kind)
    return key


# The wires


def identity(level: str, uid: str) -> str:
    """A patient without an ID is answered with an empty one."""
    return "" if level == "PATIENT" and uid.startswith("of ") else uid


def compare(archive: Archive, asked: Asked, found: list[Dataset]) -> int:
    """Check identities and the values of the keys; return how many answers were certain."""
    surely, maybe = oracle.splits(archive.files, asked.level, asked.keys, fuzzy=asked.fuzzy)
    got = Counter(oracle.text_of(one, UNIQUE[asked.level]) for one in found)
    least, most = (Counter(identity(asked.level, u) for u in s) for s in (surely, maybe))
    assert least <= got <= most, (asked, [*(least - got)][:3], [*(got - most)][:3])
    for answer in found:
        entity = archive.files.entities[asked.level].get(
            oracle.text_of(answer, UNIQUE[asked.level])
        )
        for keyword in asked.keys if entity else ():
            shown = as_set(keyword, oracle.text_of(answer, keyword))
            assert shown in [as_set(keyword, v) for v in entity.values(keyword)], (asked, keyword)
    return least.total()


def as_set(keyword: str, text: str) -> str:
    if keyword == "ModalitiesInStudy":
        return "\\".join(sorted(text.split("\\")))
    return re.sub(r"\.0*$", "", text) if dictionary_VR(keyword) == "TM" else text


def findscu(archive: Archive, folder: Path, model: str, level: str, keys: dict[str, str]):
    """Ask as a workstation does; return the response identifiers that findscu wrote."""
    folder.mkdir()
    wanted = {UNIQUE[level]: "", **keys}
    arguments = [
        part
        for keyword, value in wanted.items()
        for part in ("-k", f"{keyword}={value}" if value else keyword)
    ]
    fixed = ("-k", "SpecificCharacterSet=ISO_IR 192", "-k", f"QueryRetrieveLevel={level}")
    port = archive.server.dicom_port
    answer = dcmtk("findscu", port, model, "-X", *fixed, *arguments, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    assert "W:" not in answer.stderr, (keys, answer.stderr)
    return [dcmread(path, force=True) for path in sorted(folder.glob("rsp*.dcm"))]


def parents(model: str, wanted: Entity) -> dict[str, str] | None:
    """Return the unique keys above, of which a hierarchical query names one value each."""
    found = {}
    while wanted.above is not None:
        wanted = wanted.above
        if wanted.level != "PATIENT" or model == "-P":
            found[UNIQUE[wanted.level]] = identity(wanted.level, wanted.uid)
    plain = all(value and not set("*?\\") & {*value} for value in found.values())
    return found if plain else None


@pytest.mark.timeout(300)
def test_findscu_finds_what_the_files_say(archive: Archive, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    kinds: Counter[str] = Counter()
    asked_in_all = certain = 0
    for model, level in MODELS:
        asked_here = 0
        for number, asked in enumerate(queries(archive.files, level, 500, chance)):
            assert asked.wanted is not None
            above = parents(model, asked.wanted)
            if above is None or asked.fuzzy:  # findscu negotiates neither
                continue
            whole = Asked(level, {**asked.keys, **above})
            found = findscu(archive, tmp_path / f"{model}{level}{number}", model, level, whole.keys)
            certain += compare(archive, whole, found)
            kinds += Counter({kind: bool(found) for kind in asked.kinds})
            asked_here += 1
            if asked_here == FIND_QUERIES:
                break
        asked_in_all += asked_here

    print(f"\n{asked_in_all} queries, {certain} answers, kinds with answers {dict(kinds)}")
    assert asked_in_all >= 60
    assert {kind for kind, hits in kinds.items() if hits} >= {
        *("single", "wildcard", "range", "UID list", "multi-valued", "universal", "folded name")
    }


def test_dicomweb_client_finds_what_the_files_say(archive: Archive) -> None:
    chance = random.Random(SEED + 1)
    kinds: Counter[str] = Counter()
    asked_in_all = certain = 0
    search = {
        "STUDY": archive.web.search_for_studies,
        "SERIES": archive.web.search_for_series,
        "IMAGE": archive.web.search_for_instances,
    }
    for level in LEVELS[1:]:
        for asked in queries(archive.files, level, QIDO_QUERIES, chance):
            answers = search[level](
                search_filters=asked.keys, fuzzymatching=asked.fuzzy, limit=10_000
            )
            found = [Dataset.from_json(answer) for answer in answers]
            certain += compare(archive, asked, found)
            kinds += Counter({kind: bool(found) for kind in asked.kinds})
            asked_in_all += 1

    print(f"\n{asked_in_all} queries, {certain} answers, kinds with answers {dict(kinds)}")
    assert asked_in_all >= 60
    assert {kind for kind, hits in kinds.items() if hits} >= {
        *("single", "wildcard", "range", "UID list", "multi-valued", "universal"),
        *("folded name", "fuzzy name"),
    }


def test_relational_and_fuzzy_queries_find_what_the_files_say(archive: Archive) -> None:
    chance = random.Random(SEED + 2)
    certain = 0
    for root, level in MODELS:
        ae = AE("WORKSTATION")
        ae.add_requested_context(ROOTS[root])
        options = SOPClassExtendedNegotiation()
        options.sop_class_uid = ROOTS[root]
        options.service_class_application_information = b"\x01\x00\x01"  # relational, fuzzy
        port = archive.server.dicom_port
        association = ae.associate("127.0.0.1", port, ext_neg=[options])
        assert association.is_established
        for drawn in queries(archive.files, level, 8, chance):
            asked = Asked(level, drawn.keys, fuzzy=True)
            answers = [*association.send_c_find(identifier(asked), ROOTS[root])]
            assert answers[-1][0].Status == 0x0000, (asked, answers[-1])
            certain += compare(archive, asked, [one for _, one in answers[:-1] if one])
        association.release()

    assert certain > 100


def identifier(asked: Asked) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.QueryRetrieveLevel = asked.level
    for keyword, value in {UNIQUE[asked.level]: "", **asked.keys}.items():
        number = int if dictionary_VR(keyword) == "US" else str
        members = [number(one) for one in value.split("\\") if one]
        setattr(dataset, keyword, members if len(members) > 1 else (members or [""])[0])
    return dataset


# Names as people type them

AN: Final = "2.25.77.0"


@pytest.mark.parametrize("name", ["nguyen", "NGUYỄN", "an nguyen", "nguyễn văn an", "NGUYEN^VAN*"])
def test_name_is_found_over_both_wires(archive: Archive, tmp_path: Path, name: str) -> None:
    over_dicom = findscu(
        archive, tmp_path / "rsp", "-S", "STUDY", {"PatientName": name, "StudyInstanceUID": ""}
    )
    over_http = [
        Dataset.from_json(one)
        for one in archive.web.search_for_studies(search_filters={"PatientName": name})
    ]

    for found in (over_dicom, over_http):
        names = {one.StudyInstanceUID: one.PatientName for one in found}
        assert names[AN] == "NGUYỄN^VĂN AN"
        assert "2.25.77.3" not in names  # ĐỖ QUANG ĐẠI
        assert "2.25.77.4" not in names  # NGUY VAN ANH: another word
    assert len(over_dicom) == len(over_http)


def test_whole_set_is_there(archive: Archive) -> None:
    assert len(archive.files.paths) > 600
    assert len(archive.files.entities["STUDY"]) > 90
    assert len([*oracle.people(archive.files)]) > 60
