import pytest
from pydicom import uid as dicom_uid
from pydicom._uid_dict import UID_dictionary
from pynetdicom import sop_class
from pynetdicom.presentation import AllStoragePresentationContexts

from pacs import contexts

EXPLICIT = contexts.EXPLICIT_VR_LITTLE_ENDIAN
IMPLICIT = contexts.IMPLICIT_VR_LITTLE_ENDIAN


def test_every_storage_class_that_pynetdicom_knows_is_storage():
    known = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}

    assert known <= contexts.STORAGE_SOP_CLASSES


@pytest.mark.parametrize(
    "uid",
    [
        sop_class.Verification,
        sop_class.StudyRootQueryRetrieveInformationModelFind,
        sop_class.PatientRootQueryRetrieveInformationModelMove,
        sop_class.StorageCommitmentPushModel,
        sop_class.ModalityWorklistInformationFind,
        sop_class.ModalityPerformedProcedureStep,
        sop_class.UnifiedProcedureStepPush,
        contexts.MEDIA_STORAGE_DIRECTORY,
        EXPLICIT,
        "",
        "../../etc/passwd",
        "1.2..3",
        "1." * 40,
    ],
)
def test_other_services_and_broken_uids_are_not_storage(uid):
    assert not contexts.is_storage(uid)


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.5.1.4.1.1.2",
        "1.2.840.10008.5.1.4.1.1.3",  # retired ultrasound multi-frame
        "1.2.840.10008.5.1.1.27",  # retired stored print
        "1.2.840.10008.5.1.4.1.1.12.77",  # retired, without a name
        "1.2.840.113619.4.30",  # private
        "1.2.840.10008.5.1.4.1.1.9999",  # newer than the dictionary
    ],
)
def test_storage_classes_current_retired_private_and_future_are_storage(uid):
    assert contexts.is_storage(uid)


def test_every_registered_uid_is_storage_or_something_else():
    assert set(UID_dictionary) <= contexts.STORAGE_SOP_CLASSES | contexts.OTHER_SERVICES
    assert not contexts.STORAGE_SOP_CLASSES & contexts.OTHER_SERVICES


def test_every_transfer_syntax_that_holds_its_own_data_is_kept_as_sent():
    elsewhere = {"94", "95", "204", "205"}
    expected = {
        str(uid)
        for uid in dicom_uid.AllTransferSyntaxes
        if uid.rpartition(".")[2] not in elsewhere and ".2.7." not in uid
    }

    assert expected <= set(contexts.TRANSFER_SYNTAXES)
    assert len(contexts.TRANSFER_SYNTAXES) == len(set(contexts.TRANSFER_SYNTAXES))


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ([contexts.JPEG_LOSSLESS_SV1, EXPLICIT, IMPLICIT], contexts.JPEG_LOSSLESS_SV1),
        ([IMPLICIT, EXPLICIT], EXPLICIT),
        ([contexts.EXPLICIT_VR_BIG_ENDIAN, IMPLICIT, EXPLICIT], EXPLICIT),
        ([IMPLICIT, contexts.JPEG_BASELINE], IMPLICIT),
        ([contexts.EXPLICIT_VR_BIG_ENDIAN], contexts.EXPLICIT_VR_BIG_ENDIAN),
        (["1.2.840.10008.1.2.4.94", IMPLICIT], IMPLICIT),
        (["1.2.840.10008.1.2.4.94"], None),
        (["1.2.840.113619.5.2"], "1.2.840.113619.5.2"),
        (["not a uid"], None),
        ([], None),
    ],
)
def test_the_senders_first_storable_choice_stands_unless_explicit_little_is_plainly_better(
    proposed, chosen
):
    assert contexts.choose(proposed) == chosen


@pytest.mark.parametrize(
    ("stored", "offered"),
    [
        (EXPLICIT, (EXPLICIT, IMPLICIT)),
        (IMPLICIT, (IMPLICIT, EXPLICIT)),
        (contexts.JPEG_2000, (contexts.JPEG_2000, EXPLICIT, IMPLICIT)),
        ("1.2.840.10008.1.2.4.102", ("1.2.840.10008.1.2.4.102",)),
        ("1.2.840.113619.5.2", ("1.2.840.113619.5.2",)),
    ],
)
def test_what_can_be_decoded_is_also_offered_uncompressed(stored, offered):
    assert contexts.offers(stored) == offered


def test_our_own_uid_is_a_uid():
    assert dicom_uid.UID(contexts.IMPLEMENTATION_CLASS_UID).is_valid
    assert len(contexts.IMPLEMENTATION_VERSION_NAME) <= 16


def test_names_come_from_the_dictionary_or_from_our_additions():
    assert contexts.name_of(contexts.RLE_LOSSLESS) == "RLE Lossless"
    assert contexts.name_of(contexts.JPEG_XL) == "JPEG XL"
    assert contexts.name_of("1.2.3") == "1.2.3"
