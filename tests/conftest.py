pytest_plugins = [
    "tests.fixtures.certificates",
    "tests.fixtures.database",
    "tests.fixtures.dicom_files",
    "tests.fixtures.objects",
    "tests.fixtures.http",
    "tests.fixtures.index",
    "tests.fixtures.server",
]
