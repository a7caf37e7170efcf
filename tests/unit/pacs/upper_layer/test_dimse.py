from io import BytesIO

import pytest
from pydicom import Dataset
from pynetdicom.dimse_messages import (
    C_MOVE_RSP,
    C_STORE_RQ,
    C_STORE_RSP,
    N_ACTION_RQ,
    N_EVENT_REPORT_RQ,
    N_SET_RSP,
    DIMSEMessage,
)
from pynetdicom.dsutils import encode as encode_dataset

from pacs.upper_layer import dimse
from pacs.upper_layer.dimse import Command
from pacs.upper_layer.faults import ProtocolFault

CT = "1.2.840.10008.5.1.4.1.1.2"
INSTANCE = "1.2.826.0.1.3680043.9.1"


def as_pynetdicom(message: DIMSEMessage, **elements: object) -> bytes:
    """Encode the same elements as pynetdicom does, its empty ones left out."""
    command: Dataset = message.command_set
    for keyword in [element.keyword for element in command]:
        delattr(command, keyword)
    for keyword, value in elements.items():
        setattr(command, keyword, value)
    body = encode_dataset(command, is_implicit_vr=True, is_little_endian=True)
    assert body is not None
    length = Dataset()
    length.CommandGroupLength = len(body)
    head = encode_dataset(length, is_implicit_vr=True, is_little_endian=True)
    assert head is not None
    return head + body


def test_store_request_is_encoded_as_pynetdicom_encodes_it() -> None:
    ours = dimse.encode(
        Command(
            command_field=dimse.C_STORE_RQ,
            affected_sop_class_uid=CT,
            message_id=7,
            priority=dimse.MEDIUM,
            command_data_set_type=dimse.DATA_SET,
            affected_sop_instance_uid=INSTANCE,
            move_originator_application_entity_title="ASKER",
            move_originator_message_id=3,
        )
    )

    assert ours == as_pynetdicom(
        C_STORE_RQ(),
        AffectedSOPClassUID=CT,
        CommandField=1,
        MessageID=7,
        Priority=0,
        CommandDataSetType=1,
        AffectedSOPInstanceUID=INSTANCE,
        MoveOriginatorApplicationEntityTitle="ASKER",
        MoveOriginatorMessageID=3,
    )


def test_failure_response_is_encoded_as_pynetdicom_encodes_it() -> None:
    ours = dimse.encode(
        Command(
            command_field=dimse.C_STORE_RQ | dimse.RESPONSE,
            affected_sop_class_uid=CT,
            message_id_being_responded_to=7,
            status=0xA900,
            offending_element=(0x00080018,),
            error_comment="wrong UID",
            affected_sop_instance_uid=INSTANCE,
        )
    )

    assert ours == as_pynetdicom(
        C_STORE_RSP(),
        AffectedSOPClassUID=CT,
        CommandField=0x8001,
        MessageIDBeingRespondedTo=7,
        CommandDataSetType=0x0101,
        Status=0xA900,
        OffendingElement=0x00080018,
        ErrorComment="wrong UID",
        AffectedSOPInstanceUID=INSTANCE,
    )


def test_move_response_is_encoded_as_pynetdicom_encodes_it() -> None:
    ours = dimse.encode(
        Command(
            command_field=dimse.C_MOVE_RQ | dimse.RESPONSE,
            affected_sop_class_uid="1.2.840.10008.5.1.4.1.2.2.2",
            message_id_being_responded_to=65535,
            status=0xFF00,
            number_of_remaining_suboperations=4,
            number_of_completed_suboperations=3,
            number_of_failed_suboperations=2,
            number_of_warning_suboperations=1,
        )
    )

    assert ours == as_pynetdicom(
        C_MOVE_RSP(),
        AffectedSOPClassUID="1.2.840.10008.5.1.4.1.2.2.2",
        CommandField=0x8021,
        MessageIDBeingRespondedTo=65535,
        CommandDataSetType=0x0101,
        Status=0xFF00,
        NumberOfRemainingSuboperations=4,
        NumberOfCompletedSuboperations=3,
        NumberOfFailedSuboperations=2,
        NumberOfWarningSuboperations=1,
    )


def test_every_element_survives_the_way_there_and_back() -> None:
    command = Command(
        command_field=dimse.C_MOVE_RQ,
        affected_sop_class_uid=CT,
        requested_sop_class_uid=CT,
        message_id=1,
        message_id_being_responded_to=2,
        move_destination="ARCHIVE 2",
        priority=1,
        command_data_set_type=dimse.DATA_SET,
        status=0xB000,
        offending_element=(0x00080018, 0x7FE00010),
        error_comment="why",
        affected_sop_instance_uid=INSTANCE,
        requested_sop_instance_uid=INSTANCE,
        number_of_remaining_suboperations=1,
        number_of_completed_suboperations=2,
        number_of_failed_suboperations=3,
        number_of_warning_suboperations=4,
        move_originator_application_entity_title="ASKER",
        move_originator_message_id=5,
    )

    assert dimse.decode(dimse.encode(command)) == command


@pytest.mark.parametrize(
    ("comment", "sent"),
    [
        ("x" * 80, "x" * 64),
        ("two\\values", "two?values"),
        ("line\nbreak", "line?break"),
        ("NGUYỄN", "NGUY?N"),
    ],
    ids=["64 characters", "one value", "no control characters", "default repertoire"],
)
def test_error_comment_is_one_short_ascii_value(comment: str, sent: str) -> None:
    command = Command(command_field=dimse.C_STORE_RQ | dimse.RESPONSE, error_comment=comment)

    assert dimse.decode(dimse.encode(command)).error_comment == sent


ECHO = dimse.encode(Command(command_field=dimse.C_ECHO_RQ, message_id=1))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        ECHO[:-1],
        ECHO[:13],
        ECHO + b"\0\0\0",
        ECHO + b"\x08\x00\x18\x00\x02\0\0\0" + b"1\0",
        ECHO + b"\0\0\x10\x01\x04\0\0\0" + b"\1\0\0\0",
        ECHO + b"\0\0\x00\x10\x04\0\0\0" + "\u1ec4x".encode(),
        ECHO + b"\0\0\x00\x10\xff\xff\xff\xff",
        dimse.encode(Command(command_field=1))[12:22],
    ],
    ids=[
        "empty",
        "last value cut",
        "element cut",
        "bytes behind",
        "element of a data set",
        "US of four bytes",
        "UID that is not ASCII",
        "undefined length",
        "no data set type",
    ],
)
def test_broken_command_set_is_a_protocol_fault(data: bytes) -> None:
    with pytest.raises(ProtocolFault):
        dimse.decode(data)


def test_padding_of_values_is_not_part_of_them() -> None:
    raw = BytesIO(ECHO)
    padded = raw.getvalue() + b"\0\0\x00\x06\x10\0\0\0" + b"STORE".ljust(16)

    assert dimse.decode(padded).move_destination == "STORE"


def test_event_report_is_encoded_as_pynetdicom_encodes_it() -> None:
    ours = dimse.encode(
        Command(
            command_field=dimse.N_EVENT_REPORT_RQ,
            affected_sop_class_uid="1.2.840.10008.1.20.1",
            message_id=7,
            command_data_set_type=dimse.DATA_SET,
            affected_sop_instance_uid="1.2.840.10008.1.20.1.1",
            event_type_id=2,
        )
    )

    assert ours == as_pynetdicom(
        N_EVENT_REPORT_RQ(),
        AffectedSOPClassUID="1.2.840.10008.1.20.1",
        CommandField=0x0100,
        MessageID=7,
        CommandDataSetType=1,
        AffectedSOPInstanceUID="1.2.840.10008.1.20.1.1",
        EventTypeID=2,
    )


def test_refusal_of_an_update_is_encoded_as_pynetdicom_encodes_it() -> None:
    ours = dimse.encode(
        Command(
            command_field=dimse.N_SET_RQ | dimse.RESPONSE,
            affected_sop_class_uid="1.2.840.10008.3.1.2.3.3",
            message_id_being_responded_to=7,
            status=0x0110,
            error_id=0xA710,
            affected_sop_instance_uid=INSTANCE,
            attribute_identifier_list=(0x00400252, 0x00400250),
        )
    )

    assert ours == as_pynetdicom(
        N_SET_RSP(),
        AffectedSOPClassUID="1.2.840.10008.3.1.2.3.3",
        CommandField=0x8120,
        MessageIDBeingRespondedTo=7,
        CommandDataSetType=0x0101,
        Status=0x0110,
        ErrorID=0xA710,
        AffectedSOPInstanceUID=INSTANCE,
        AttributeIdentifierList=[0x00400252, 0x00400250],
    )


def test_action_of_pynetdicom_is_read() -> None:
    theirs = as_pynetdicom(
        N_ACTION_RQ(),
        RequestedSOPClassUID="1.2.840.10008.1.20.1",
        CommandField=0x0130,
        MessageID=9,
        CommandDataSetType=1,
        RequestedSOPInstanceUID="1.2.840.10008.1.20.1.1",
        ActionTypeID=1,
    )

    assert dimse.decode(theirs) == Command(
        command_field=dimse.N_ACTION_RQ,
        requested_sop_class_uid="1.2.840.10008.1.20.1",
        message_id=9,
        command_data_set_type=dimse.DATA_SET,
        requested_sop_instance_uid="1.2.840.10008.1.20.1.1",
        action_type_id=1,
    )
