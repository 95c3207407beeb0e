"""A version as a tar, streamed from the archive to the person whose it is.

One at a time for each person and few at once in all, since each holds a thread of the server until its reader has
taken everything. Who takes nothing for STALLED_SECONDS is cut off (server.py).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import chain, islice

from flask import Response

from webadmin.context import parts
from webadmin.i18n import _
from webadmin.taking import Downloads
from workspaces.archive import open_archive
from workspaces.errors import ArchiveError, ArchiveUnavailable, SettingsError, WorkspacesError
from workspaces.model import Snapshot

log = logging.getLogger(__name__)


class _Stream:
    """The tar's bytes; the server closes it however the download ends."""

    def __init__(self, downloads: Downloads, name: str, ref: str, chunks: Iterator[bytes]) -> None:
        self._downloads, self._name, self._ref, self._chunks = downloads, name, ref, chunks
        self._over = False

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._chunks
        except WorkspacesError as error:
            log.error("the download of %s by %s broke off: %s", self._ref, self._name, error.message)
            raise  # the server closes the connection before the last chunk, so the browser knows that it is not whole
        finally:
            self.close()

    def close(self) -> None:
        if not self._over:  # else the place may be that of this person's next download
            self._over = True
            self._downloads.end(self._name)


def answer(name: str, snapshot: Snapshot) -> Response:
    """The answer to `name`, who may have it. Raises Conflict, NotFound; ArchiveUnavailable, as people may read it."""
    assert snapshot.manifest_digest is not None
    downloads = parts().downloads
    downloads.begin(name)
    try:
        archive = open_archive(parts().settings)
        chunks = archive.docker_tar(snapshot.manifest_digest, snapshot.image_ref)
        begun = list(islice(chunks, 2))  # with the first bytes of a layer: what cannot be read is told, not broken off
    except (ArchiveError, SettingsError) as error:  # they tell administrators of places on this host
        downloads.end(name)
        log.error("the download of %s by %s cannot begin: %s", snapshot.image_ref, name, error)
        raise ArchiveUnavailable(
            _("The version cannot be read just now."), _("Tell an administrator; the log says why.")
        ) from error
    except BaseException:
        downloads.end(name)
        raise
    file = f"{snapshot.workspace.replace('/', '-')}-v{snapshot.version}.tar"
    response = Response(
        _Stream(downloads, name, str(snapshot.image_ref), chain(begun, chunks)), mimetype="application/x-tar"
    )
    response.headers["Content-Disposition"] = f'attachment; filename="{file}"'
    return response
