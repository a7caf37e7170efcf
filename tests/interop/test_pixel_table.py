"""The files of the shared set at every level and in every transfer syntax, beside pydicom.

A ninth of them by default. With the variable LIENTHONG_WRITE_TABLES it is all of them, which
takes some minutes, and the table goes into the documents.
"""

import os
import warnings
from collections.abc import Iterator

import pytest

from pacs import contexts
from pacs.decoding import Decoders
from tests.fixtures import pixel_table
from tests.fixtures.dicom_files import SharedFile
from tests.fixtures.http import HttpNode
from tests.fixtures.pixel_table import Table

WRITE = bool(os.environ.get("LIENTHONG_WRITE_TABLES"))
pytestmark = [
    pytest.mark.interop,
    pytest.mark.slow,
    pytest.mark.timeout(1800 if WRITE else 600),
]


@pytest.fixture(scope="module")
def table(shared_http_node: HttpNode, shared_set: list[SharedFile]) -> Iterator[Table]:
    found, pool = Table(), Decoders()
    client = shared_http_node.client()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archived = pixel_table.archive(shared_http_node, shared_set[:: 1 if WRITE else 9], found)
        targets = contexts.TRANSCODE_TARGETS
        for number, one in enumerate(archived):
            one.reference = pixel_table.reference(one, pool)
            others = [target for target in targets if target != one.syntax]
            asked = others[number % len(others)]
            pixel_table.ask_instance(client, one, asked, pool, found)
        pixel_table.ask_levels(client, archived, found)
        pixel_table.pairs(archived, pool, found)
    yield found
    pool.close()


def test_no_pixel_is_changed_and_nothing_is_a_defect(table: Table) -> None:
    if WRITE:
        pixel_table.DOCUMENT.write_text(pixel_table.document(table), encoding="utf-8")

    assert table.faults == []
    assert table.compared > (2000 if WRITE else 200)
    assert 0 < table.worst_mean_error < pixel_table.MAX_MEAN_ERROR
