"""Content-addressed store of committed images: an OCI image layout in a directory, blobs shared between images."""

from workspaces.archive.blobs import Descriptor, is_digest
from workspaces.archive.layout import Archive, ArchivedImage, Problem

__all__ = ["Archive", "ArchivedImage", "Descriptor", "Problem", "is_digest"]
