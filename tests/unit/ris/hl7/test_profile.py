import pytest

from ris.hl7 import profile
from ris.hl7.message import Position
from ris.hl7.profile import OnError, Path
from storage.base.errors import Malformed, NotFound


@pytest.mark.parametrize("name", profile.names())
def test_every_profile_can_be_read(name: str) -> None:
    found = profile.named(name)

    assert found.name == name
    assert found.description
    assert found.of("patient_id")
    assert found.of("placer_order_number")


def test_profile_begins_as_the_one_it_is_like() -> None:
    generic, hispro = profile.named("generic"), profile.named("hispro")

    assert hispro.control == generic.control
    assert hispro.of("reason") == generic.of("reason")
    assert hispro.of("start") != generic.of("start")
    assert hispro.on_error is OnError.QUEUE


def test_unknown_profile_is_named_with_those_that_exist() -> None:
    with pytest.raises(NotFound, match=r"'his'; there are generic, hispro"):
        profile.named("his")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("PID-3", Path(Position("PID", 3))),
        ("OBR-4.1.2", Path(Position("OBR", 4, 1, 2))),
        ("OBR-2.2#", Path(Position("OBR", 2, 2), number=True)),
        ("ORC-2.2!=OBR-2.2", Path(Position("ORC", 2, 2), Position("OBR", 2, 2))),
        ("ORC-2.2#!=OBR-2.2", Path(Position("ORC", 2, 2), Position("OBR", 2, 2), number=True)),
    ],
)
def test_paths_are_written_briefly(text: str, path: Path) -> None:
    assert Path.of(text) == path


def test_single_values_can_be_changed() -> None:
    generic = profile.named("generic")

    changed = profile.changed(
        generic,
        {
            "issuer": "BVDK",
            "role": "filler",
            "processing_ids": ["P", "T"],
            "paths": {"accession_number": "OBR-18.1"},
            "modalities": {"CR1": "CR"},
        },
    )

    assert (changed.issuer, changed.role, changed.processing_ids) == ("BVDK", "filler", ("P", "T"))
    assert changed.of("accession_number") == (Path(Position("OBR", 18, 1)),)
    assert changed.of("modality") == generic.of("modality")
    assert changed.modalities == {**generic.modalities, "CR1": "CR"}


@pytest.mark.parametrize(
    "changes",
    [
        {"isuer": "BV"},
        {"issuer": 7},
        {"role": "boss"},
        {"one_order_per": "PID"},
        {"charset": "klingon"},
        {"enhanced": "yes"},
        {"on_error": "panic"},
        {"paths": {"accession": ["OBR-18"]}},
        {"paths": {"accession_number": ["OBR18"]}},
        {"paths": {"accession_number": 18}},
        {"paths": "OBR-18"},
        {"processing_ids": [1]},
        {"modalities": ["DX"]},
    ],
    ids=str,
)
def test_change_that_cannot_be_is_refused_by_name(changes: dict[str, object]) -> None:
    [name] = changes

    with pytest.raises(Malformed, match=f"profile generic, {name}: "):
        profile.changed(profile.named("generic"), changes)
