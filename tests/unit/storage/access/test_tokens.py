from itertools import product

import pytest

from storage.access.tokens import PERMITTED, Action, Caller, Role
from storage.base.errors import NotPermitted

ALLOWED = {
    ("admin", "query"), ("admin", "retrieve"), ("admin", "store"), ("admin", "manage"),
    ("radiologist", "query"), ("radiologist", "retrieve"), ("radiologist", "store"),
    ("technologist", "query"), ("technologist", "retrieve"), ("technologist", "store"),
    ("viewer", "query"), ("viewer", "retrieve"),
    ("admin", "read reports"), ("admin", "write reports"),
    ("radiologist", "read reports"), ("radiologist", "write reports"),
    ("technologist", "read reports"), ("viewer", "read reports"),
    ("admin", "see orders"), ("admin", "reconcile"),
    ("radiologist", "see orders"), ("radiologist", "reconcile"),
    ("technologist", "see orders"), ("technologist", "reconcile"),
    ("admin", "release reports"), ("radiologist", "release reports"),
    ("technologist", "release reports"),
}  # fmt: skip
EVERY_PAIR = list(product(Role, Action))


def caller(role: Role) -> Caller:
    return Caller("0123456789ab", role, "")


@pytest.mark.parametrize(("role", "action"), [p for p in EVERY_PAIR if p in ALLOWED])
def test_role_may_do_what_the_table_says(role: Role, action: Action) -> None:
    caller(role).require(action)


@pytest.mark.parametrize(("role", "action"), [p for p in EVERY_PAIR if p not in ALLOWED])
def test_role_may_do_nothing_else(role: Role, action: Action) -> None:
    with pytest.raises(NotPermitted, match=f"the role {role} may not {action}"):
        caller(role).require(action)


def test_every_role_stands_in_the_table() -> None:
    assert set(PERMITTED) == set(Role)
