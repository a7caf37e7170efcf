"""The signed papers of reports, and the letterhead that all papers bear."""

from dataclasses import asdict, dataclass
from typing import Final

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from ris import outbox
from ris.releases import releasing
from ris.reports import records
from ris.reports.contents import check_short
from ris.reports.paper.model import Letterhead
from ris.reports.signing.model import Evidence
from ris.reports.tables import DocumentRow, LetterheadRow
from storage.base.clock import utc_now
from storage.db.engine import Session

USUAL: Final = "usual"
"""The one letterhead there is; a name, for hospitals with several sites later."""


@dataclass(frozen=True, slots=True)
class Document:
    """Where the signed paper of one version lies, and the evidence of its signature."""

    revision: int
    object_key: str
    size: int
    sha256: str
    evidence: Evidence


def save(session: Session, report_uid: str, document: Document) -> Document:
    """Keep the paper of a version; the one that was kept first stays, and is returned.

    Raises
    ------
    Missing
        There is no such report.
    """
    row = records.held(session, report_uid)
    values = {
        "report_id": row.id,
        "revision": document.revision,
        "object_key": document.object_key,
        "size": document.size,
        "sha256": document.sha256,
        **asdict(document.evidence),
    }
    kept = insert(DocumentRow).values(**values).on_conflict_do_nothing().returning(DocumentRow.id)
    if session.scalar(kept) is not None:
        outbox.paper_is_there(session, report_uid, document.revision, utc_now())
    releasing.renewed(session, report_uid, document.revision)
    return find(session, report_uid, document.revision) or document


def find(session: Session, report_uid: str, revision: int) -> Document | None:
    """Return the signed paper of a version; None when it is not signed (yet).

    Raises
    ------
    Missing
        There is no such report.
    """
    row = records.held(session, report_uid)
    found = session.scalar(
        select(DocumentRow).where(DocumentRow.report_id == row.id, DocumentRow.revision == revision)
    )
    return _document(found) if found else None


def put_letterhead(session: Session, letterhead: Letterhead) -> Letterhead:
    """Change the letterhead; papers that were signed keep theirs.

    Raises
    ------
    Invalid
        A text is too long.
    """
    texts = {
        name: check_short(value, f"/{name}")
        for name, value in asdict(letterhead).items()
        if isinstance(value, str)
    }
    values = {"texts": texts, "logo": letterhead.logo, "changed_at": utc_now()}
    session.execute(
        insert(LetterheadRow)
        .values(name=USUAL, **values)
        .on_conflict_do_update(index_elements=["name"], set_=values)
        .execution_options(synchronize_session=False)
    )
    return Letterhead(**texts, logo=letterhead.logo)


def letterhead(session: Session) -> Letterhead:
    """Return the letterhead; an empty one until somebody has set it."""
    row = session.get(LetterheadRow, USUAL, populate_existing=True)
    return Letterhead(**row.texts, logo=row.logo) if row else Letterhead()


def _document(row: DocumentRow) -> Document:
    evidence = Evidence(
        method=row.method,
        qualified=row.qualified,
        level=row.level,
        algorithm=row.algorithm,
        subject=row.subject,
        issuer=row.issuer,
        serial_number=row.serial_number,
        certificate=row.certificate,
        signed_at=row.signed_at,
        time_stamped_at=row.time_stamped_at,
    )
    return Document(row.revision, row.object_key, row.size, row.sha256, evidence)
