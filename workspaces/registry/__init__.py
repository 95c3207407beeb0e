"""Another place for archived versions: a registry that speaks the OCI distribution API.

Registry (where, and as whom) ─► connect ─► Client: blobs and manifests of one push or pull
"""

from workspaces.registry.client import Client, Registry

__all__ = ["Client", "Registry"]
