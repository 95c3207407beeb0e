"""What a version is and who wanted it, signed: in-toto statements in DSSE envelopes under this host's ed25519 key.

statement.py  record of a version ─► statement ─► and back: where the two differ      (pure)
signer.py     keys/provenance ─► envelope;  envelope and public key ─► the statement's bytes
"""

from workspaces.provenance.signer import PublicKey, Signer, open_envelope
from workspaces.provenance.statement import (
    BOM_TYPES,
    SNAPSHOT_TYPE,
    Base,
    bom_statement,
    differences,
    parse_statement,
    snapshot_statement,
)

__all__ = [
    "BOM_TYPES",
    "SNAPSHOT_TYPE",
    "Base",
    "PublicKey",
    "Signer",
    "bom_statement",
    "differences",
    "open_envelope",
    "parse_statement",
    "snapshot_statement",
]
