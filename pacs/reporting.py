"""What becomes of a signed report, later and in order: paper, signature, objects of the study.

    version ─ paper ─ signature ─ object store ─ Encapsulated PDF and Basic Text SR ─ spool

Each step gives the same when it is done again. While the signing service is away the job
waits; reading and telling others of the text do not.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from pacs import illustrating, rejecting, report_objects, retrieve
from pacs.report_objects import Coded, Facts, Request
from ris import orders
from ris.hl7 import ledger, observing
from ris.reports import documents, key_images, practitioners, queries
from ris.reports.documents import Document
from ris.reports.key_images import KeyImage
from ris.reports.model import Report, Version
from ris.reports.paper import composing, layout
from ris.reports.paper.composing import Press, Printing
from ris.reports.paper.model import Letterhead, Paper, Picture
from ris.reports.paper.words import TITLE
from ris.reports.signing import model as signing
from ris.reports.signing.model import Evidence, Signer
from ris.reports.states import ACTION_NAMES, NAMES, SIGNED
from storage.archive import instances, search
from storage.archive.model import Level, Match, Query, StoredInstance
from storage.archive.rejection_rules import Title
from storage.base.clock import utc_now
from storage.base.errors import NotFound, StoreUnavailable
from storage.base.settings import Settings
from storage.db.engine import Engine, Session, transaction
from storage.jobs.runner import Handler
from storage.objects import keys
from storage.objects.store import ObjectStore
from storage.objects.writing import put_pieces
from storage.spool import Spool

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reporting:
    """Makes papers and objects of reports, with the parts of a node."""

    settings: Settings
    engine: Engine
    store: ObjectStore
    spool: Spool
    signer: Signer

    def handlers(self) -> Mapping[str, Handler]:
        """Return the jobs that are done here, by name."""
        return {
            "pacs.document_report": self.document_report,
            "pacs.reject_report": self.reject_report,
            "pacs.keep_received_paper": self.keep_received_paper,
        }

    def document_report(self, report_uid: str, revision: int) -> None:
        """Sign the paper of a version, keep it, and put it and its text into the study.

        Raises
        ------
        Unavailable
            The signing service, a store or the spool does not answer.
        Rejected
            It cannot be signed as things are: a person has to see to it.
        """
        with transaction(self.engine) as session:
            report, version = _version(session, report_uid, revision)
            document = documents.find(session, report_uid, revision)
        if document is None:
            document, pdf = self._sign(report, version)
        else:
            pdf = self.store.read(document.object_key)
        self._archive(report, version, pdf)
        log.info("report_documented", extra={"bytes": document.size, "version": version.version})

    def reject_report(self, report_uid: str, revision: int) -> None:
        """Say in each study of a retracted report that its documents must not be used.

        Those that are still being signed, or on their way, are hidden as they come.
        """
        with transaction(self.engine) as session:
            report, version = _version(session, report_uid, revision)
            signed = [
                one
                for one in queries.versions(session, report_uid, issued=True)
                if one.status in SIGNED
            ]
            facts = self._facts(session, report, version)
            meant = _documents(session, facts, report, signed) if facts else []
        if facts is None or not meant:
            return
        described = ACTION_NAMES[version.action].told(report.language)
        made = report_objects.key_objects(
            facts, report_objects.REJECTED, [(one, 0) for one in meant], described
        )
        self._spool(made)

    def keep_received_paper(
        self, report_uid: str, revision: int, message_id: int, part: int
    ) -> None:
        """Keep the PDF that came with a result in HL7, and put it into the study.

        Raises
        ------
        Unavailable
            A store or the spool does not answer.
        NotFound
            The message is not there any more.
        """
        with transaction(self.engine) as session:
            report, version = _version(session, report_uid, revision)
            raw = ledger.get(session, message_id).raw
        pdf = observing.paper_in(raw, part)
        if pdf is None:
            raise NotFound(f"message {message_id} has no paper")
        sha256 = hashlib.sha256(pdf).hexdigest()
        key = keys.document_key(report.uid, sha256)
        self._put(key, pdf)
        with transaction(self.engine) as session:
            documents.save(
                session, report.uid, Document(revision, key, len(pdf), sha256, _received())
            )
            facts = self._facts(session, report, version)
        if facts is not None:
            self._spool(report_objects.encapsulated_pdf(facts, pdf))
        log.info("report_paper_kept", extra={"bytes": len(pdf), "version": version.version})

    def _sign(self, report: Report, version: Version) -> tuple[Document, bytes]:
        with transaction(self.engine) as session:
            chosen = _illustrations(session, report)
        pictures = [*illustrating.pictures(self.store, chosen)]
        with transaction(self.engine) as session:
            note = self.signer.note.told(report.language)
            pdf = unsigned_paper(self.settings, session, report, version, note, pictures)
            credential = practitioners.credential_of(session, version.author.code)
        reason = ACTION_NAMES[version.action].told(report.language)
        signed = self.signer.sign(signing.Request(pdf, version.author, credential, reason))
        sha256 = hashlib.sha256(signed.pdf).hexdigest()
        key = keys.document_key(report.uid, sha256)
        self._put(key, signed.pdf)
        made = Document(version.revision, key, len(signed.pdf), sha256, signed.evidence)
        with transaction(self.engine) as session:
            kept = documents.save(session, report.uid, made)
        return kept, signed.pdf if kept == made else self.store.read(kept.object_key)

    def _put(self, key: str, content: bytes) -> None:
        put_pieces(self.store, self.settings.data_dir / "papers", key, content)
        if self.store.sha256(key) != hashlib.sha256(content).hexdigest():
            self.store.delete(key)
            raise StoreUnavailable(f"object {key} reads back with another hash")

    def _archive(self, report: Report, version: Version, pdf: bytes) -> None:
        with transaction(self.engine) as session:
            facts = self._facts(session, report, version)
            chosen = _chosen(session, report)
        if facts is None:  # a report of what is not held; images that come later change nothing
            return
        self._spool(report_objects.encapsulated_pdf(facts, pdf))
        self._spool(report_objects.basic_text_sr(facts))
        for title, some in chosen.items():
            self._spool(report_objects.key_objects(facts, title, some, ""))

    def _spool(self, dataset: Dataset) -> None:
        report_objects.put(self.spool, dataset, self.settings.ae_title)

    def _facts(self, session: Session, report: Report, version: Version) -> Facts | None:
        study = next(
            filter(None, (_study(session, uid) for uid in report.study_instance_uids)), None
        )
        if study is None:
            return None
        flags = NAMES[version.status]
        content = version.content
        sections = [
            (name, getattr(content, name)) for name in report_objects.SECTIONS if name != "addendum"
        ]
        sections += [("addendum", one.text) for one in content.addenda]
        return Facts(
            report_uid=report.uid,
            version=version.version,
            study=study,
            title=TITLE.told(report.language),
            language=report.language,
            author=version.author.name,
            organization=documents.letterhead(session).hospital[:64],
            at=version.authored_at.astimezone(self.settings.zone),
            completion_flag=flags.completion_flag,
            verification_flag=flags.verification_flag,
            preliminary_flag=flags.preliminary_flag,
            sections=sections,
            requests=_requests(session, report),
            evidence=_images(session, report.study_instance_uids),
            superseded=_signed_before(session, report, version),
        )


def unsigned_paper(
    settings: Settings,
    session: Session,
    report: Report,
    version: Version,
    note: str = "",
    pictures: Sequence[Picture] = (),
) -> bytes:
    """Return the paper of a version; `note` says what kind of signature it is about to get.

    The key images stand on pages of their own.

    Raises
    ------
    Malformed
        The logo cannot be printed.
    """
    press = Press(
        letterhead=documents.letterhead(session),
        zone=settings.zone,
        root_url=settings.public_url,
    )
    made_at = utc_now() if note else version.authored_at
    printing = Printing(made_at=made_at, signature_note=note, pictures=pictures)
    return layout.render(composing.compose(session, report, version, press, printing))


def _received() -> Evidence:
    """Return what is known of the signature of a paper that another system made."""
    return Evidence(
        method="received",
        qualified=False,
        level="",
        algorithm="",
        subject="",
        issuer="",
        serial_number="",
        certificate=b"",
        signed_at=utc_now(),
        time_stamped_at=None,
    )


def check_letterhead(letterhead: Letterhead) -> None:
    """Raise `Malformed` when the logo is no picture that can be printed."""
    paper = Paper(
        letterhead=letterhead,
        language="vi",
        title="",
        number="",
        version=0,
        status="",
        made_at=utc_now(),
    )
    layout.render(paper)


def _version(session: Session, report_uid: str, revision: int) -> tuple[Report, Version]:
    report = queries.get(session, report_uid)
    return report, queries.version(session, report_uid, revision)


def _signed_before(session: Session, report: Report, version: Version) -> int:
    issued = queries.versions(session, report.uid, issued=True)
    before = [one for one in issued if one.version < version.version and one.status in SIGNED]
    return before[-1].version if before else 0


def _study(session: Session, uid: str) -> Match | None:
    found = search.find(session, Query(Level.STUDY, {"StudyInstanceUID": uid}), limit=1).matches
    return found[0] if found else None


def _images(session: Session, study_instance_uids: Sequence[str]) -> list[StoredInstance]:
    return [
        one
        for uid in study_instance_uids
        for one in instances.locate(session, {"StudyInstanceUID": uid})
        if one.sop_class_uid not in report_objects.DOCUMENT_CLASSES
    ]


def _chosen(
    session: Session, report: Report
) -> Mapping[Coded, Sequence[tuple[StoredInstance, int]]]:
    """Return the key images by the title of their selection (PS3.16 CID 7010)."""
    found: dict[Coded, list[tuple[StoredInstance, int]]] = {}
    for one in key_images.of_report(session, report.uid):
        title = report_objects.FOR_PROVIDER if one.for_provider else report_objects.OF_INTEREST
        keys_of = {
            "StudyInstanceUID": one.study_instance_uid,
            "SOPInstanceUID": one.sop_instance_uid,
        }
        for instance in instances.locate(session, keys_of):
            found.setdefault(title, []).append((instance, one.frame))
    return found


def _illustrations(session: Session, report: Report) -> list[tuple[KeyImage, StoredInstance]]:
    """Return the key images of a report with where they lie, in the order of the reader."""
    return [
        (one, stored)
        for one in key_images.of_report(session, report.uid)
        for stored in instances.locate(
            session,
            {
                "StudyInstanceUID": one.study_instance_uid,
                "SOPInstanceUID": one.sop_instance_uid,
            },
        )
    ]


def selected(store: ObjectStore, session: Session, report: Report) -> Iterator[KeyImage]:
    """Yield what the Key Object Selections in the studies of a report name.

    Selections that reject images (PS3.16 CID 7011) are none of images that matter.
    """
    for uid in report.study_instance_uids:
        for one in instances.locate(session, {"StudyInstanceUID": uid}):
            if one.sop_class_uid == rejecting.KEY_OBJECT_SELECTION:
                yield from _selected(retrieve.read_dataset(store, one), one)


def _selected(content: bytes, held: StoredInstance) -> Iterator[KeyImage]:
    dataset = report_objects.decode(content, held.transfer_syntax_uid)
    title = report_objects.title_of(dataset)
    if title in frozenset(Title):
        return
    for _, uid, frame in report_objects.chosen_in(dataset):
        yield KeyImage(
            held.study_instance_uid,
            uid,
            frame or 1,
            for_provider=title == report_objects.FOR_PROVIDER[0],
        )


def _documents(
    session: Session, facts: Facts, report: Report, signed: Sequence[Version]
) -> list[StoredInstance]:
    """Return the documents of signed versions: where they are, or are going to be."""
    meant = {
        named.sop_instance_uid: named
        for one in signed
        for kind in report_objects.DOCUMENTS
        for named in (report_objects.document(facts, kind, one.version),)
    }
    for uid in report.study_instance_uids:
        for held in instances.locate(session, {"StudyInstanceUID": uid}):
            if held.sop_instance_uid in meant:
                meant[held.sop_instance_uid] = held
    return [*meant.values()]


def _requests(session: Session, report: Report) -> list[Request]:
    found = []
    for order_id in report.order_ids:
        order = orders.get(session, order_id)
        for one in orders.procedures_of(session, order_id):
            meaning = one.code.meaning if one.code else one.description
            uid = one.study_instance_uid or next(iter(report.study_instance_uids), "")
            found.append(
                Request(
                    uid,
                    order.accession_number[:16],
                    order.placer_order_number[:64],
                    order.filler_order_number[:64],
                    one.requested_procedure_id[:16],
                    meaning,
                )
            )
    return found


def signed_paper(store: ObjectStore, document: Document) -> bytes:
    """Return the signed paper, compared with its hash.

    Raises
    ------
    StoreUnavailable
        The store does not answer, or the bytes are not those that were signed.
    """
    try:
        content = store.read(document.object_key)
    except NotFound as error:
        raise StoreUnavailable(f"object {document.object_key} is gone") from error
    if hashlib.sha256(content).hexdigest() != document.sha256:
        raise StoreUnavailable(f"object {document.object_key} is not what was signed")
    return content
