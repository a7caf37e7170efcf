import struct

import pytest
from pynetdicom import build_context, build_role
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SOPClassExtendedNegotiation,
)

from pacs.upper_layer import pdu
from pacs.upper_layer.faults import ProtocolFault
from pacs.upper_layer.pdu import (
    AssociateAccept,
    AssociateRequest,
    ContextResult,
    ProposedContext,
    Rejection,
    Roles,
    UserInformation,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"

REQUEST = AssociateRequest(
    "ARCHIVE",
    "CT01",
    (ProposedContext(1, CT, (IMPLICIT, EXPLICIT)), ProposedContext(3, FIND, (IMPLICIT,))),
    UserInformation(16384, "1.2.3", "VERSION", {CT: Roles(scu=False, scp=True)}, {FIND: b"\1\1\1"}),
)


def body_of(encoded: bytes) -> memoryview:
    return memoryview(encoded)[6:]


def pynetdicom_request() -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = pdu.APPLICATION_CONTEXT
    primitive.calling_ae_title, primitive.called_ae_title = "CT01", "ARCHIVE"
    first, second = build_context(CT, [IMPLICIT, EXPLICIT]), build_context(FIND, [IMPLICIT])
    first.context_id, second.context_id = 1, 3
    primitive.presentation_context_definition_list = [first, second]
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16384
    implementation.implementation_class_uid = "1.2.3"
    extended = SOPClassExtendedNegotiation()
    extended.sop_class_uid, extended.service_class_application_information = FIND, b"\1\1\1"
    role = build_role(CT, scp_role=True)
    primitive.user_information = [length, implementation, role, extended]
    encoded: bytes = A_ASSOCIATE_RQ(primitive).encode()
    return encoded


def test_request_of_pynetdicom_is_read_whole() -> None:
    read = pdu.decode_request(body_of(pynetdicom_request()))

    assert (read.called_ae_title, read.calling_ae_title) == ("ARCHIVE", "CT01")
    assert read.application_context == pdu.APPLICATION_CONTEXT
    assert read.contexts == REQUEST.contexts
    assert read.user.max_length == 16384
    assert read.user.roles == {CT: Roles(scu=False, scp=True)}
    assert read.user.extended == {FIND: b"\1\1\1"}


def test_request_survives_the_way_there_and_back() -> None:
    assert pdu.decode_request(body_of(pdu.encode_request(REQUEST))) == REQUEST


def test_pynetdicom_reads_our_accept() -> None:
    user = UserInformation(65536, roles={CT: Roles(scu=True, scp=True)}, asynchronous=True)
    results = (ContextResult(1, 0, EXPLICIT), ContextResult(3, 3, IMPLICIT))
    accept = AssociateAccept("ARCHIVE", "CT01", results, user)

    theirs = A_ASSOCIATE_AC()
    theirs.decode(pdu.encode_accept(accept))

    primitive = theirs.to_primitive()
    answers = primitive.presentation_context_definition_results_list
    assert [(cx.context_id, cx.result) for cx in answers] == [(1, 0), (3, 3)]
    assert answers[0].transfer_syntax == [EXPLICIT]
    assert primitive.maximum_length_received == 65536
    assert theirs.user_information.role_selection[CT].scp_role == 1
    assert theirs.user_information.async_ops_window.max_operations_invoked == 1


def test_accept_survives_the_way_there_and_back() -> None:
    user = UserInformation(0, extended={FIND: b"\0\1\1"})
    accept = AssociateAccept("ARCHIVE", "CT01", (ContextResult(5, 0, EXPLICIT),), user)

    assert pdu.decode_accept(body_of(pdu.encode_accept(accept))) == accept


def test_pynetdicom_reads_our_reject_and_abort() -> None:
    reject, abort = A_ASSOCIATE_RJ(), A_ABORT_RQ()

    reject.decode(pdu.encode_reject(Rejection(2, 3, 2)))
    abort.decode(pdu.encode_abort(2, 6))

    assert (reject.result, reject.source, reject.reason_diagnostic) == (2, 3, 2)
    assert (abort.source, abort.reason_diagnostic) == (2, 6)


def test_rejection_says_in_words_what_it_means() -> None:
    rejection = pdu.decode_reject(body_of(pdu.encode_reject(Rejection(1, 1, 7))))

    assert rejection.text == "called AE title not recognized (permanent)"


def with_contexts(*contexts: ProposedContext) -> bytes:
    return pdu.encode_request(AssociateRequest("A", "B", contexts, UserInformation(16384)))


def with_user_item(kind: int, value: bytes) -> bytes:
    good = pdu.encode_request(REQUEST)
    start = good.index(
        struct.pack(">BxHBxH", 0x50, len(good) - good.rindex(b"\x50\0") - 4, 0x51, 4)
    )
    return good[:start] + struct.pack(">BxHBxH", 0x50, len(value) + 4, kind, len(value)) + value


@pytest.mark.parametrize(
    "encoded",
    [
        pdu.encode_request(REQUEST)[:40],
        pdu.encode_request(REQUEST)[:-3],
        with_contexts(),
        with_contexts(ProposedContext(2, CT, (IMPLICIT,))),
        with_contexts(ProposedContext(1, CT, (IMPLICIT,)), ProposedContext(1, FIND, (IMPLICIT,))),
        with_contexts(ProposedContext(1, CT, ())),
        with_user_item(0x51, b"\0\0\0"),
        with_user_item(0x51, b"\0\0\0\x06"),
        with_user_item(0x54, b"\0\xff1.2"),
        with_user_item(0x54, b"\0\x031.2"),
        with_user_item(0x56, b"\0"),
    ],
    ids=[
        "fixed part cut",
        "user information cut",
        "no context",
        "even context ID",
        "context ID twice",
        "no transfer syntax",
        "maximum length of three bytes",
        "maximum length that holds no message",
        "role selection cut",
        "role selection without roles",
        "extended negotiation cut",
    ],
)
def test_broken_request_is_a_protocol_fault(encoded: bytes) -> None:
    with pytest.raises(ProtocolFault):
        pdu.decode_request(body_of(encoded))


def test_every_cut_of_a_request_is_a_protocol_fault_or_a_request() -> None:
    whole = body_of(pdu.encode_request(REQUEST))

    for end in range(len(whole)):
        with pytest.raises(ProtocolFault):
            pdu.decode_request(whole[:end])
