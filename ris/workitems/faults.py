"""Why a request about a workitem is refused.

The texts are those that PS3.18 11 puts into Warning headers, where it has one.
"""

from storage.base.errors import Conflict, Malformed, NotFound

INCONSISTENT = "The submitted request is inconsistent with the current state of the Workitem."


class NoSuchWorkitem(NotFound):
    """There is no workitem of that UID."""

    def __init__(self, text: str = "The Target Workitem was not found.") -> None:
        super().__init__(text)


class UnknownReceiver(NotFound):
    """Nobody registered the application entity that shall get the events."""


class Duplicate(Conflict):
    """There is a workitem of that UID."""

    def __init__(self) -> None:
        super().__init__("The Workitem already exists.")


class NotScheduled(Malformed):
    """A workitem begins in another state than SCHEDULED."""

    def __init__(self) -> None:
        super().__init__("The provided value of Procedure Step State was not SCHEDULED.")


class AttributeFault(Malformed):
    """An attribute is not as PS3.4 Table CC.2.5-3 demands."""

    def __init__(self, what: str, *keywords: str) -> None:
        super().__init__(f"{', '.join(keywords)}: {what}")
        self.keywords = keywords


class MissingAttribute(AttributeFault):
    """It is not there."""


class MissingValue(AttributeFault):
    """It has no value."""


class InvalidValue(AttributeFault):
    """It has a value that it cannot have, or must not be sent."""


class WrongTransaction(Malformed):
    """The Transaction UID of the claim is missing or another one."""

    def __init__(self, sent: str) -> None:
        state = "incorrect" if sent else "missing"
        super().__init__(f"The Transaction UID is {state}.")


class NeverScheduledAgain(Malformed):
    """A workitem becomes SCHEDULED when it is created, and only then."""

    def __init__(self) -> None:
        super().__init__(INCONSISTENT)


class StateConflict(Conflict):
    """The state that the workitem is in does not allow it."""

    def __init__(self, text: str = INCONSISTENT) -> None:
        super().__init__(text)


class NoLongerUpdated(StateConflict):
    """It is COMPLETED or CANCELED."""


class AlreadyInProgress(StateConflict):
    """It is claimed, by the one who asks."""


class NotInProgress(StateConflict):
    """It is not claimed yet."""


class FinalStateUnmet(StateConflict):
    """Attributes lack that a COMPLETED workitem has."""


class AlreadyCompleted(StateConflict):
    """It cannot be cancelled any more."""

    def __init__(self) -> None:
        super().__init__("The UPS is already COMPLETED.")


class PerformerAway(StateConflict):
    """Nobody would hear of the wish to cancel it."""

    def __init__(self) -> None:
        super().__init__("The performer cannot be contacted.")


class WrongAction(Conflict):
    """The action does not apply to this instance."""
