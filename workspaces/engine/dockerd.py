"""Docker as this program's engine: the daemon at `host`, whoever started it.

DockerEngine = DockerConnection (clients, errors) ─► DockerImages ─► DockerContainers
"""

from __future__ import annotations

from workspaces.engine.containers import DockerContainers


class DockerEngine(DockerContainers):
    """The Engine protocol over the docker SDK. Safe to use from several threads and processes."""
