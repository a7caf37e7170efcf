"""The verdict on each study, from what is held and what was performed, and what follows of it.

A study that is complete though nobody said so completes its orders: performed steps that were
never ended are taken for ended, and where there is none at all one is made up.
"""

from collections.abc import Collection, Iterable
from dataclasses import asdict
from datetime import datetime, tzinfo

from sqlalchemy import select

from ris import performed, verdict
from ris.matching import DOCUMENTS
from ris.model import OVER
from ris.performed import Made, PerformedStep
from ris.study_tables import AttachmentRow, StudyRow
from ris.tables import StepRow
from ris.verdict import Facts, Performed, PerformedStatus, State, Verdict
from storage.archive import studies
from storage.archive.studies import HeldStudy
from storage.base import temporal
from storage.base.errors import Malformed
from storage.db.engine import Session


def judge(session: Session, study_instance_uid: str, now: datetime, zone: tzinfo) -> Verdict | None:
    """Judge a study, write the verdict down and do what follows; None when nothing is known of it.

    The caller holds the lock of the study.

    Parameters
    ----------
    now
        Aware.
    zone
        The time zone of the hospital.
    """
    held = studies.describe(session, study_instance_uid)
    told = performed.of_study(session, study_instance_uid)
    facts = _facts(session, held, [step for step in told if not step.synthesised])
    row = session.get(StudyRow, study_instance_uid, populate_existing=True)
    if row is None or (held is None and not facts.performed):
        return None
    found = verdict.judge(facts, now)
    row.state, row.assumed, row.judged_at = found.state, found.assumed, now
    row.evidence = [asdict(one) for one in found.evidence]
    row.watched, row.look_at = found.look_again_at is not None, found.look_again_at
    session.flush()
    if found.state is State.COMPLETE and found.assumed:
        _complete(session, held, told, now, zone)
    return found


def _facts(session: Session, held: HeldStudy | None, told: Iterable[PerformedStep]) -> Facts:
    return Facts(
        performed=[
            Performed(
                sop_instance_uid=one.sop_instance_uid,
                # what we took for ended is judged again with everything that came since
                status=PerformedStatus.IN_PROGRESS if one.assumed else one.status,
                changed_at=one.changed_at,
                named=one.objects,
                missing=performed.missing_objects(session, one.sop_instance_uid),
                reason=one.reason,
            )
            for one in told
        ],
        modalities={*held.modalities} - DOCUMENTS if held else (),
        instances=held.instances if held else 0,
        # what was rejected is as if nothing had come: it completes nothing
        last_received_at=held.changed_at if held and held.instances else None,
    )


def _complete(
    session: Session,
    held: HeldStudy | None,
    told: Collection[PerformedStep],
    now: datetime,
    zone: tzinfo,
) -> None:
    for step in told:
        if step.status is PerformedStatus.IN_PROGRESS:
            performed.close(session, step.sop_instance_uid)
    if held is not None and all(step.synthesised for step in told):
        open_steps = _open_steps(session, held)
        if open_steps:
            performed.synthesise(session, _made(held, zone), open_steps, now)


def _open_steps(session: Session, held: HeldStudy) -> list[int]:
    """Return what is still to be done of the orders that a study is attached to."""
    attached = select(AttachmentRow.procedure_ref).where(
        AttachmentRow.study_instance_uid == held.study_instance_uid,
        AttachmentRow.detached_at.is_(None),
    )
    statement = select(StepRow).where(
        StepRow.procedure_ref.in_(attached), StepRow.status.not_in(OVER)
    )
    steps = session.scalars(statement.order_by(StepRow.id)).all()
    of_modality = [step.id for step in steps if step.modality in held.modalities]
    return of_modality or [step.id for step in steps]


def _made(held: HeldStudy, zone: tzinfo) -> Made:
    images = [one for one in held.series if one.modality not in DOCUMENTS] or [*held.series]
    return Made(
        study_instance_uid=held.study_instance_uid,
        patient_id=held.patient_id,
        modality=images[0].modality,
        station_ae_title=images[0].source_ae_title,
        started=moment(held.study_date, held.study_time),
        ended=held.changed_at.astimezone(zone).replace(tzinfo=None),
        series_instance_uids=[one.series_instance_uid for one in held.series],
    )


def moment(day_text: str, time_text: str) -> datetime | None:
    """Return the local time that a date and a time name, None when they name none."""
    try:
        day, time = temporal.parse_da(day_text), temporal.parse_tm(time_text)
    except Malformed:
        return None
    return datetime.combine(day, time or datetime.min.time()) if day else None
