"""The object store: a small protocol with two implementations, a folder and S3."""

from storage.base.errors import Malformed
from storage.base.settings import Settings
from storage.objects.directory import DirectoryStore
from storage.objects.store import ObjectStore


def open_store(settings: Settings) -> ObjectStore:
    """Return the store that `settings` name: ``objects_url``, or the folder of the node.

    Raises
    ------
    Malformed
        The URL is not one that we know; the text never holds its secret.
    StoreUnavailable
        The folder cannot be made. An S3 server that is away now is no error here.
    """
    url = settings.objects_url.get_secret_value()
    if not url:
        return DirectoryStore(settings.data_dir / "objects")
    if not url.startswith("s3://"):
        raise Malformed("LIENTHONG_OBJECTS_URL: it begins with s3:// or is empty")
    from storage.objects.s3 import S3Store  # noqa: PLC0415 (the SDK takes 0.2 s to import)

    return S3Store.from_url(url)
