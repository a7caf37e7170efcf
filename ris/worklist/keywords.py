"""The attributes of a worklist entry that are spoken of by name (PS3.4 K.6.1.2.2)."""

from typing import Final

STEP: Final = "ScheduledProcedureStepSequence"
STATION: Final = f"{STEP}.ScheduledStationAETitle"
STATUS: Final = f"{STEP}.ScheduledProcedureStepStatus"
START_DATE: Final = f"{STEP}.ScheduledProcedureStepStartDate"
START_TIME: Final = f"{STEP}.ScheduledProcedureStepStartTime"
MODALITY: Final = f"{STEP}.Modality"
TIMEZONE: Final = "TimezoneOffsetFromUTC"
