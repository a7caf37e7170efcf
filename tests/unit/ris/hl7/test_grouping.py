from ris.hl7 import grouping, message
from ris.hl7.grouping import Scope
from ris.hl7.message import Message, Position

HEAD = "MSH|^~\\&|HIS|BV|||20260101||ORM^O01|1|P|2.3.1"


def read(*segments: str) -> Message:
    return message.read("\r".join([HEAD, *segments]).encode())


def shape(scope: Scope) -> list[str]:
    """Return the group's own segments as ``NAME set-id``."""
    return [f"{one.name}{one.value(1)}" for one in scope.own]


def test_order_is_what_stands_behind_its_orc() -> None:
    groups = grouping.orders(
        read("PID|1", "PV1|1", "ORC|a", "TQ1|a", "OBR|a", "NTE|a", "ORC|b", "OBR|b", "IPC|b")
    )

    assert [shape(one) for one in groups] == [
        ["ORCa", "TQ1a", "OBRa", "NTEa"],
        ["ORCb", "OBRb", "IPCb"],
    ]
    assert [one.name for one in groups[1].shared] == ["MSH", "PID", "PV1"]


def test_second_obr_is_a_second_order_under_the_same_orc() -> None:
    message_ = read("PID|1", "ORC|a", "TQ1|a", "OBR|1", "NTE|1", "OBR|2", "NTE|2")

    assert [shape(one) for one in grouping.orders(message_)] == [
        ["ORCa", "TQ1a", "OBR1", "NTE1"],
        ["ORCa", "TQ1a", "OBR2", "NTE2"],
    ]
    assert [shape(one) for one in grouping.orders(message_, per_order=True)] == [
        ["ORCa", "TQ1a", "OBR1", "NTE1", "OBR2", "NTE2"]
    ]


def test_obr_needs_no_orc() -> None:
    assert [shape(one) for one in grouping.orders(read("PID|1", "OBR|1", "ZDS|1", "OBR|2"))] == [
        ["OBR1", "ZDS1"],
        ["OBR2"],
    ]


def test_patient_after_the_orders_is_everybodys() -> None:
    [first, second] = grouping.orders(read("ORC|a", "OBR|1", "ORC|b", "OBR|2", "PV1|x", "PID|y"))

    assert first.value(Position("PID", 1)) == second.value(Position("PID", 1)) == "y"


def test_one_zds_at_the_end_counts_for_every_order() -> None:
    groups = grouping.orders(read("PID|1", "ORC|a", "OBR|1", "ORC|b", "OBR|2", "ZDS|1.2.3"))

    assert [one.value(Position("ZDS", 1)) for one in groups] == ["1.2.3", "1.2.3"]


def test_zds_of_one_order_is_not_another_ones() -> None:
    groups = grouping.orders(read("PID|1", "ORC|a", "OBR|1", "ZDS|1.2.3", "ORC|b", "OBR|2"))

    assert [one.value(Position("ZDS", 1)) for one in groups] == ["1.2.3", ""]


def test_own_value_comes_before_the_shared_one() -> None:
    [order] = grouping.orders(read("PID|1", "NTE|1||shared", "ORC|a", "OBR|1", "NTE|1||own"))

    assert order.value(Position("NTE", 3)) == "own"
    assert order.raw(Position("PID", 1)) == "1"
    assert order.value(Position("ZXX", 1)) == order.raw(Position("ZXX", 1)) == ""


def test_each_patient_of_a_merge_has_its_mrg() -> None:
    scopes = grouping.patients(read("EVN|A40", "PID|1", "MRG|a", "PID|2", "PD1|2", "MRG|b"))

    assert [shape(one) for one in scopes] == [["PID1", "MRGa"], ["PID2", "PD12", "MRGb"]]
    assert scopes[1].value(Position("EVN", 1)) == "A40"


def test_message_without_orders_has_none() -> None:
    assert grouping.orders(read("PID|1", "NTE|1")) == []
    assert grouping.patients(read("EVN|1")) == []
