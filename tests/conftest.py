import os

from hypothesis import settings

# The same examples on every run, so that a red run is about the change. Set
# the variable LIENTHONG_TEST_EXPLORE to look for others.
settings.register_profile("steady", derandomize=True)
settings.register_profile("explore", print_blob=True)
settings.load_profile("explore" if os.environ.get("LIENTHONG_TEST_EXPLORE") else "steady")

pytest_plugins = [
    "tests.fixtures.serving",
    "tests.fixtures.certificates",
    "tests.fixtures.database",
    "tests.fixtures.dicom_files",
    "tests.fixtures.objects",
    "tests.fixtures.his",
    "tests.fixtures.http",
    "tests.fixtures.index",
    "tests.fixtures.server",
    "tests.fixtures.reports",
    "tests.fixtures.fhir",
    "tests.fixtures.reading_room",
    "tests.fixtures.stations",
]
