"""The index answers like a brute-force reading of the same files.

Every readable header of the shared set is recorded; generated queries at all levels
are answered by the index and by the plain matcher below, which was written from the
rules (PS3.4 C.2.2.2) and shares no code with the product.
"""

import hashlib
import random
import re
import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.errors import BytesLengthException, InvalidDicomError

from storage.archive import attributes, instances, search
from storage.archive.model import Level, Query, ReceivedInstance, Verdict
from storage.db.engine import Engine, transaction
from tests.fixtures.dicom_files import SharedFile
from tests.fixtures.index import RECEIVED_AT

QUERIES_PER_LEVEL = 80
UNIQUE = {
    Level.PATIENT: "PatientID",
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.IMAGE: "SOPInstanceUID",
}
MULTIPLE = {
    "OtherPatientIDs",
    "OperatorsName",
    "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy",
    "ImageType",
    "RequestAttributesSequence.ScheduledProcedureStepID",
    "RequestAttributesSequence.RequestedProcedureID",
}
PATIENT = {
    "PatientName": "name",
    "PatientID": "text",
    "IssuerOfPatientID": "text",
    "PatientBirthDate": "date",
    "PatientSex": "text",
    "OtherPatientIDs": "text",
    "PatientComments": "text",
}
STUDY = {
    "StudyInstanceUID": "uid",
    "StudyDate": "date",
    "StudyTime": "time",
    "AccessionNumber": "text",
    "StudyID": "text",
    "StudyDescription": "text",
    "ReferringPhysicianName": "name",
    "NameOfPhysiciansReadingStudy": "name",
    "ModalitiesInStudy": "list",
    "SOPClassesInStudy": "list",
}
SERIES = {
    "SeriesInstanceUID": "uid",
    "Modality": "text",
    "SeriesNumber": "integer",
    "SeriesDescription": "text",
    "SeriesDate": "date",
    "SeriesTime": "time",
    "BodyPartExamined": "text",
    "Laterality": "text",
    "ProtocolName": "text",
    "PerformedProcedureStepStartDate": "date",
    "PerformedProcedureStepStartTime": "time",
    "PerformedProcedureStepID": "text",
    "StationName": "text",
    "Manufacturer": "text",
    "ManufacturerModelName": "text",
    "InstitutionalDepartmentName": "text",
    "OperatorsName": "name",
    "PerformingPhysicianName": "name",
    "FrameOfReferenceUID": "uid",
    "RequestAttributesSequence.ScheduledProcedureStepID": "text",
    "RequestAttributesSequence.RequestedProcedureID": "text",
}
IMAGE = {
    "SOPInstanceUID": "uid",
    "SOPClassUID": "uid",
    "InstanceNumber": "integer",
    "ContentDate": "date",
    "ContentTime": "time",
    "AcquisitionDate": "date",
    "AcquisitionTime": "time",
    "AcquisitionNumber": "integer",
    "ImageType": "text",
    "Rows": "integer",
    "Columns": "integer",
    "BitsAllocated": "integer",
    "NumberOfFrames": "integer",
}
OWN = {Level.PATIENT: PATIENT, Level.STUDY: STUDY, Level.SERIES: SERIES, Level.IMAGE: IMAGE}
KEYS = {
    Level.PATIENT: PATIENT,
    Level.STUDY: PATIENT | STUDY,
    Level.SERIES: PATIENT | STUDY | SERIES,
    Level.IMAGE: PATIENT | STUDY | SERIES | IMAGE,
}

Entity = dict[str, str]
"""Keyword to text, several values joined by a backslash."""


# Reading the files


def headers(files: list[SharedFile]) -> Iterator[tuple[ReceivedInstance, Entity]]:
    """Yield what is recorded of each readable file and what the matcher compares with."""
    for file in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset = dcmread(file.path, stop_before_pixels=True, force=True)
                texts = {keyword: text_of(dataset, keyword) for keyword in attributes.STORED}
        except (
            InvalidDicomError,
            BytesLengthException,
            OSError,
            ValueError,
            LookupError,
            AttributeError,
            TypeError,
            NotImplementedError,
        ):
            continue
        if not all(re.fullmatch(r"[0-9.]{1,64}", texts[uid]) for uid in attributes.REQUIRED):
            continue
        if any(".." in texts[uid] or texts[uid][-1] == "." for uid in attributes.REQUIRED):
            continue
        digest = hashlib.sha256(file.path.read_bytes()).hexdigest()
        syntax = str(getattr(dataset.file_meta, "TransferSyntaxUID", "1.2.840.10008.1.2"))
        one = ReceivedInstance(texts, syntax, digest, 0, 1, digest, RECEIVED_AT)
        yield one, {keyword: text for keyword, text in texts.items() if text}


def text_of(dataset: Dataset, dotted: str) -> str:
    sequence, _, keyword = dotted.rpartition(".")
    parents = dataset.get(sequence, []) if sequence else [dataset]
    values: list[str] = []
    for parent in parents or []:
        value = parent.get(keyword)
        if value is not None:
            several = isinstance(value, (list, tuple)) or hasattr(value, "append")
            values += [str(v) for v in value] if several else [str(value)]
    joined = "\\".join(value.strip(" \0\r\n\t\f") for value in values)
    joined = unicodedata.normalize("NFC", joined.replace("\0", "").strip())
    return joined.encode("utf-8", "replace").decode()


# The hierarchy, by first values


@dataclass
class Archive:
    """The stored instances as a tree of plain dictionaries."""

    patients: list[Entity] = field(default_factory=list)
    studies: dict[str, Entity] = field(default_factory=dict)
    series: dict[str, Entity] = field(default_factory=dict)
    instances: dict[str, Entity] = field(default_factory=dict)
    patient_of: dict[str, Entity] = field(default_factory=dict)

    def add(self, texts: Entity) -> None:
        study_uid, series_uid = texts["StudyInstanceUID"], texts["SeriesInstanceUID"]
        if study_uid not in self.studies:
            self.patient_of[study_uid] = self.patient(texts)
        study = self.studies.setdefault(study_uid, {})
        series = self.series.setdefault(series_uid, {"StudyInstanceUID": study_uid})
        instance = self.instances[texts["SOPInstanceUID"]] = {"SeriesInstanceUID": series_uid}
        patient = self.patient_of[study_uid]
        same_id = patient.get("PatientID") == texts.get("PatientID")
        if same_id or "PatientID" not in patient:
            issuer_fixed = same_id and "PatientID" in patient
            supplement(
                patient, texts, {*PATIENT} - ({"IssuerOfPatientID"} if issuer_fixed else set())
            )
        supplement(study, texts, {*STUDY})
        supplement(series, texts, {*SERIES})
        supplement(instance, texts, {*IMAGE})
        for kind, source in (
            ("ModalitiesInStudy", "Modality"),
            ("SOPClassesInStudy", "SOPClassUID"),
        ):
            members = {*study.get(kind, "").split("\\"), *texts.get(source, "").split("\\")}
            study[kind] = "\\".join(sorted(members - {""}))

    def patient(self, texts: Entity) -> Entity:
        """Find whom a new study belongs to: same identifier and demographics without conflict."""
        facts = ("PatientID", "IssuerOfPatientID")
        same = [
            one
            for one in self.patients
            if texts.get("PatientID") and all(one.get(f) == texts.get(f) for f in facts)
        ]
        alike = [one for one in same if compatible(one, texts)]
        exact = [
            one
            for one in alike
            if valid_date(one) == valid_date(texts)
            and bool(words(one.get("PatientName", ""))) == bool(words(texts.get("PatientName", "")))
        ]
        if exact or len(alike) == 1:
            return (exact or alike)[0]
        self.patients.append({})
        return self.patients[-1]

    def entities(self, level: Level) -> list[Entity]:
        if level is Level.PATIENT:
            return self.patients
        studies = {uid: {**self.patient_of[uid], **one} for uid, one in self.studies.items()}
        if level is Level.STUDY:
            return [*studies.values()]
        series = {
            uid: {**studies[one["StudyInstanceUID"]], **one} for uid, one in self.series.items()
        }
        if level is Level.SERIES:
            return [*series.values()]
        return [{**series[one["SeriesInstanceUID"]], **one} for one in self.instances.values()]


def supplement(entity: Entity, texts: Entity, keywords: set[str]) -> None:
    for keyword in keywords:
        value = texts.get(keyword, "")
        kind = KEYS[Level.IMAGE][keyword]
        if kind == "date" and not day_of(value):
            continue
        if kind == "integer" and number_of(value) is None:
            continue
        if value:
            entity.setdefault(keyword, value)


def valid_date(texts: Entity) -> str:
    return day_of(texts.get("PatientBirthDate", ""))


def compatible(one: Entity, other: Entity) -> bool:
    days = {valid_date(one), valid_date(other)} - {""}
    if len(days) > 1:
        return False
    ours, theirs = groups(one.get("PatientName", "")), groups(other.get("PatientName", ""))
    if not ours or not theirs:
        return True
    return any(sorted(a.split()) == sorted(b.split()) for a in ours for b in theirs)


# Matching


def fold(text: str) -> str:
    plain = ""
    for character in text:
        for part in unicodedata.normalize("NFKD", "D" if character in "ĐÐƉđðɖ" else character):
            if unicodedata.category(part) in {"Mn", "Cf"}:
                continue
            separates = part.isspace() or part in "^=\\,;:._/()[]-" or ord(part) < 32
            plain += " " if separates else part.upper()
    return " ".join(unicodedata.normalize("NFC", plain.replace("’", "'")).split())


def groups(text: str) -> list[str]:
    return [folded for group in text.split("=")[:3] if (folded := fold(group))]


def words(text: str) -> set[str]:
    return {word for name in text.split("\\") for group in groups(name) for word in group.split()}


def like(pattern: str, text: str) -> bool:
    expression = "".join({"*": ".*", "?": "."}.get(c) or re.escape(c) for c in pattern)
    return re.fullmatch(expression, text, re.DOTALL) is not None


def day_of(text: str) -> str:
    text = text.replace(".", "") if re.fullmatch(r"\d{4}\.\d\d\.\d\d", text) else text
    match = re.fullmatch(r"(\d{4})(\d\d)(\d\d)", text)
    if not match:
        return ""
    year, month, day = map(int, match.groups())
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    longest = [31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    return text if year and 1 <= month <= 12 and 1 <= day <= longest[month - 1] else ""


def moment_of(text: str, filler: str = "0") -> str:
    """Return HHMMSSFFFFFF; what is not given becomes the first or last it can be."""
    bare = re.sub(r"^(\d\d):(\d\d)", r"\1\2", text)
    bare = re.sub(r"^(\d{4}):", r"\1", bare)
    match = re.fullmatch(r"(\d\d)(\d\d)?(\d\d)?(?:\.(\d{1,6}))?", bare)
    if not match or (match[4] and not match[3]):
        return ""
    hour, minute, second = match[1], match[2], match[3]
    if int(hour) > 23 or int(minute or 0) > 59 or int(second or 0) > 59:
        return ""
    rest = "59" if filler == "9" else "00"
    return hour + (minute or rest) + (second or rest) + (match[4] or "").ljust(6, filler)


def number_of(text: str) -> int | None:
    first = text.split("\\", maxsplit=1)[0].strip()
    if not re.fullmatch(r"[+-]?\d{1,12}", first) or not -(2**31) <= int(first) < 2**31:
        return None
    return int(first)


def between(value: str, low: str, high: str) -> bool:
    return bool(value) and (not low or value >= low) and (not high or value <= high)


def matches(kind: str, keyword: str, held: str, key: str, *, fuzzy: bool) -> bool:
    """Judge one value of a key against what is held of an entity."""
    if kind == "uid":
        return held == key
    if kind == "integer":
        return number_of(held) is not None and number_of(held) == number_of(key)
    if kind == "date":
        low, hyphen, high = key.partition("-")
        return between(day_of(held), low, high if hyphen else low)
    if kind == "time":
        low, hyphen, high = key.partition("-")
        last = high if hyphen else low
        return between(
            moment_of(held), low and moment_of(low), last and moment_of(last, filler="9")
        )
    if kind == "name":
        return name_matches(held, key, fuzzy=fuzzy)
    several = kind == "list" or keyword in MULTIPLE
    values = [v.strip() for v in held.split("\\")] if several else [held]
    return any(like(key, value) for value in values if value or not several)


def name_matches(held: str, key: str, *, fuzzy: bool) -> bool:
    of_names = [groups(name) for name in held.split("\\")]
    if "*" in key or "?" in key:
        stored = [f"{group} " for some in of_names for group in some]
        patterns = [fold(group) for group in key.split("=")]
        return all(
            any(like(p, group.rstrip()) or like(p, group) for group in stored)
            for p in patterns
            if p.strip("*")
        )
    wanted, have = words(key), words(held)
    if fuzzy:
        return all(any(word.startswith(w) for word in have) for w in wanted)
    return wanted <= have


def expected(archive: Archive, query: Query) -> list[Entity]:
    def fits(entity: Entity, keyword: str, key: str) -> bool:
        kind = KEYS[query.level][keyword]
        text = dictionary_VR(keyword) in {"LT", "ST", "UT"} if "." not in keyword else False
        values = [key] if text else key.split("\\")
        held = entity.get(keyword, "")
        return any(
            not value.strip("* ") or matches(kind, keyword, held, value.strip(), fuzzy=query.fuzzy)
            for value in values
        )

    return [
        entity
        for entity in archive.entities(query.level)
        if all(fits(entity, keyword, key) for keyword, key in query.keys.items())
    ]


# Generated queries


def queries(archive: Archive, level: Level, chance: random.Random) -> Iterator[Query]:
    entities = archive.entities(level)
    for _ in range(QUERIES_PER_LEVEL):
        wanted = chance.choice(entities)
        fuzzy = chance.random() < 0.3
        names = chance.sample([*KEYS[level]], k=chance.choice([1, 1, 2, 3]))
        keys = {
            name: key_for(KEYS[level][name], name, wanted, entities, chance, fuzzy=fuzzy)
            for name in names
        }
        yield Query(level, keys, fuzzy=fuzzy)


def key_for(
    kind: str,
    keyword: str,
    wanted: Entity,
    entities: list[Entity],
    chance: random.Random,
    *,
    fuzzy: bool,
) -> str:
    """Return a key that is likely to match `wanted`, and often others or none."""
    with_value = [one[keyword] for one in entities if one.get(keyword)]
    if chance.random() < 0.05 or not with_value:
        return chance.choice(["", "*"])
    value = wanted.get(keyword) or chance.choice(with_value)
    other = chance.choice(with_value)
    key = {
        "uid": uid_key,
        "integer": integer_key,
        "date": date_key,
        "time": time_key,
        "name": name_key,
        "text": text_key,
        "list": list_key,
    }[kind](value, other, chance)
    if kind == "name" and fuzzy and not {"*", "?"} & {*key}:
        key = " ".join(word[: chance.randint(1, 4)] for word in key.split())
    return key


def uid_key(value: str, other: str, chance: random.Random) -> str:
    return chance.choice([value, f"{value}\\{other}", f"{other}\\1.2.3\\{value}"])


def integer_key(value: str, other: str, chance: random.Random) -> str:
    number, another = number_of(value), number_of(other)
    return chance.choice([str(number), f"{number}\\{another}", f"{(number or 0) + 1}"])


def date_key(value: str, other: str, chance: random.Random) -> str:
    low, high = sorted((day_of(value), day_of(other)))
    if not low:
        return f"-{high or '20240101'}"
    return chance.choice([low, f"{low}-{high}", f"{low}-", f"-{high}", f"{high}-{low}"])


def time_key(value: str, other: str, chance: random.Random) -> str:
    length = chance.choice([2, 4, 6])
    low, high = sorted((moment_of(value)[:length] or "00", moment_of(other)[:length] or "12"))
    return chance.choice([low, f"{low}-{high}", f"{low}-", f"-{high}"])


def name_key(value: str, other: str, chance: random.Random) -> str:
    shown = value.split("\\", maxsplit=1)[0]
    parts = re.split(r"[\^= ]+", shown.strip("^= "))
    chance.shuffle(parts)
    return chance.choice(
        [
            shown,
            shown.lower(),
            fold(shown),
            " ".join(parts),
            parts[0],
            f"{shown[: chance.randint(1, 6)]}*",
            f"*{parts[-1][-3:]}*",
            f"?{shown.split('=')[0].split('^')[0][1:]}*",
            f"{shown}\\{other}",
        ]
    ).replace("\\\\", "\\")


def text_key(value: str, other: str, chance: random.Random) -> str:
    value = chance.choice(value.split("\\"))
    middle = len(value) // 2
    return chance.choice(
        [
            value,
            value.swapcase(),
            f"{value[: middle + 1]}*",
            f"*{value[middle:]}",
            f"*{value[middle : middle + 2]}*",
            f"{value[:middle]}?{value[middle + 1 :]}",
            f"{value}\\{other}",
            value[:middle] + "_" + value[middle + 1 :],
        ]
    )


def list_key(value: str, other: str, chance: random.Random) -> str:
    member = chance.choice(value.split("\\"))
    if member[:1].isdigit():
        return chance.choice([member, f"{member}\\1.2.3"])
    return chance.choice([member, f"{member[:1]}*", f"?{member[1:]}", f"{member}\\{other}"])


# The comparison


@pytest.fixture
def archive(engine: Engine, shared_set: list[SharedFile]) -> Archive:
    """The shared set, in the index and as a tree."""
    read = [*headers(shared_set)]
    assert len(read) > 300, "most of the shared set should be readable"
    tree = Archive()
    for start in range(0, len(read), 64):
        batch = read[start : start + 64]
        with transaction(engine) as session:
            outcomes = instances.record(session, [one for one, _ in batch])
        for outcome, (_, texts) in zip(outcomes, batch, strict=True):
            if outcome.verdict is Verdict.STORED:
                tree.add(texts)
    return tree


def answers(engine: Engine, query: Query) -> list[dict[str, Any]]:
    with transaction(engine) as session:
        return [dict(m) for m in search.find(session, query, limit=100_000).matches]


def identity(level: Level, entity: dict[str, Any]) -> tuple[str, ...]:
    if level is Level.PATIENT:  # a Patient ID may be of several persons, or empty
        return (entity.get("PatientID", ""), entity.get("PatientName", ""))
    return (entity[UNIQUE[level]],)


def test_generated_queries_are_answered_like_a_reading_of_the_files(
    engine: Engine, archive: Archive
) -> None:
    chance = random.Random(20260301)
    hits: dict[str, int] = defaultdict(int)
    asked = 0
    for level in Level:
        for query in queries(archive, level, chance):
            asked += 1
            found = Counter(identity(level, match) for match in answers(engine, query))
            wanted = Counter(identity(level, entity) for entity in expected(archive, query))
            assert found == wanted, (
                f"{query}: only in the index {[*(found - wanted)][:3]},"
                f" only in the files {[*(wanted - found)][:3]}"
            )
            for keyword in query.keys:
                hits[KEYS[level][keyword]] += bool(wanted)

    assert asked >= 100
    assert set(hits) == {"uid", "integer", "date", "time", "name", "text", "list"}
    assert min(hits.values()) >= 10, hits


@pytest.mark.parametrize("level", Level)
def test_answers_hold_the_values_of_the_files(
    engine: Engine, archive: Archive, level: Level
) -> None:
    found = sorted(answers(engine, Query(level)), key=lambda match: identity(level, match))
    wanted = sorted(archive.entities(level), key=lambda entity: identity(level, entity))

    assert len(found) == len(wanted)
    if level is Level.PATIENT:
        return  # equal identities have no order of their own; the names were compared above
    for match, entity in zip(found, wanted, strict=True):
        for keyword, kind in KEYS[level].items():
            held: Any = entity.get(keyword, "")
            if kind == "integer":
                held = number_of(held) if held else ""
            elif kind == "date":
                held = day_of(held)
            elif held and (kind == "list" or keyword in MULTIPLE):
                held = tuple(value.strip() for value in held.split("\\"))
            assert match[keyword] == held, (identity(level, match), keyword)


def test_counters_are_what_counting_gives(engine: Engine, archive: Archive) -> None:
    series = Counter(one["StudyInstanceUID"] for one in archive.series.values())
    of_series = Counter(one["SeriesInstanceUID"] for one in archive.instances.values())

    studies = answers(engine, Query(Level.STUDY))

    assert {m["StudyInstanceUID"]: m["NumberOfStudyRelatedSeries"] for m in studies} == series
    assert {
        m["SeriesInstanceUID"]: m["NumberOfSeriesRelatedInstances"]
        for m in answers(engine, Query(Level.SERIES))
    } == of_series
    assert sum(m["NumberOfStudyRelatedInstances"] for m in studies) == len(archive.instances)
