"""What an image lacks for comfort: a look into it without starting anything of its own.

check ─► throw-away container that runs the guest agent's `which` ─► one Finding for each program of TABLE
"""

from __future__ import annotations

from workspaces.engine.base import GUEST_MOUNT, Engine
from workspaces.errors import EngineError
from workspaces.model import ImageFinding

# programs of which one must be there, required?, what people miss without it, Debian package
TABLE: tuple[tuple[tuple[str, ...], bool, str, str], ...] = (
    (("sh",), True, "nobody can log in", "dash"),
    (("bash", "zsh", "fish"), False, "the login shell has no history and no completion", "bash"),
    (("sftp-server",), False, "sftp and most graphical clients cannot copy files", "openssh-sftp-server"),
    (("scp",), False, "scp with the old protocol (scp -O) cannot copy files", "openssh-client"),
    (("rsync",), False, "rsync cannot copy files", "rsync"),
    (("git",), False, "git cannot push or pull, inside and over ssh", "git"),
    (("tar",), False, "tar pipes and many editors' remote modes fail", "tar"),
    (("ps",), False, "people cannot see their processes", "procps"),
    (("less", "more"), False, "long texts cannot be paged", "less"),
    (("nano", "vim", "vi", "emacs"), False, "files cannot be edited inside", "nano"),
    (("apt-get", "dnf", "apk", "zypper"), False, "packages cannot be installed", "apt"),
)
LENT = "/sftp/sftp-server"  # how the path of what lies in the guest's directory ends


class Finding(ImageFinding):
    """As text, a line for people."""

    __slots__ = ()

    def __str__(self) -> str:
        if self.present:
            lent = "; the image has none, so the host's is lent" if self.path.endswith(LENT) else ""
            return f"ok    {self.name}: {self.path}{lent}"
        return f"{'bad ' if self.required else 'warn'}  {self.name} is missing: {self.loss}. {self.fix}"


def check(engine: Engine, reference: str) -> list[Finding]:
    """Look for the programs of TABLE in the image `reference`. Raises NotFound and EngineError."""
    names = tuple(name for alternatives, *_ in TABLE for name in alternatives)
    result = engine.run(reference, (f"{GUEST_MOUNT}/agent", "which", *names))
    if result.exit_code != 0:
        raise EngineError(f"The image {reference} could not be looked into.", result.stderr.decode(errors="replace"))
    paths = dict(line.split("\t", 1) for line in result.stdout.decode(errors="replace").splitlines() if "\t" in line)
    findings = []
    for alternatives, required, loss, package in TABLE:
        path = next((paths[name] for name in alternatives if paths.get(name)), "")
        fix = f"On Debian: workspaces image build NAME --packages {package}"
        findings.append(Finding(" or ".join(alternatives), bool(path), required, path, loss, fix))
    return findings
