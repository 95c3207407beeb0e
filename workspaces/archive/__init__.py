"""Content-addressed store of committed images: an OCI image layout in a directory or bucket, blobs shared."""

from pathlib import Path

from workspaces.archive.blobs import Descriptor
from workspaces.archive.images import ArchivedImage
from workspaces.archive.layout import Archive
from workspaces.archive.manifest import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE
from workspaces.archive.sealing import Seal
from workspaces.archive.storage import Directory, Storage
from workspaces.archive.upkeep import Garbage, Problem, Usage, Verdict
from workspaces.settings import Settings

__all__ = [
    "CONFIG_TYPE",
    "LAYER_TYPE",
    "MANIFEST_TYPE",
    "Archive",
    "ArchivedImage",
    "Descriptor",
    "Garbage",
    "Problem",
    "Usage",
    "Verdict",
    "open_archive",
]


def open_archive(settings: Settings, identity: Path | None = None) -> Archive:
    """The archive that the settings name; `identity` is a file to decrypt with instead of the one in keys/.

    Raises SettingsError for recipients or credentials that are wrong.
    """
    seal = Seal(settings.archive_recipients, settings.keys, identity)
    storage: Storage = Directory(settings.archive_dir)
    if settings.archive_bucket is not None:
        from workspaces.archive.s3 import S3  # half a second, for those who need it

        storage = S3(settings.archive_bucket, settings.archive_dir, settings.keys)
    return Archive(storage, seal)
