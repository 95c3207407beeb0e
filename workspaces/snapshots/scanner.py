"""A process of its own that looks for secrets in bytes: Kingfisher, which is native code, on hostile input.

    standard input:  4 bytes of length, big-endian ─► that many bytes ─► … ─► end of file ends it
    standard output: one line of JSON for each: the kinds found, such as ["github-pat"], or null when it took too long

Run as a script, so that it imports nothing of this program. Before the first byte is read it has given up root, its
network, files and further processes; memory and processor time are limited. Kingfisher (Apache-2.0, of MongoDB) ships
its rules and scans offline; what would ask a provider whether a secret is valid is another class, which is not used.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys

MEMORY = 1 << 30  # bytes of address space; 85 MB are used with the rules loaded
CPU_SECONDS = 120
SECONDS = 5.0  # for one file, as far as the scanner heeds it
NOBODY = 65534
KINDS_MAX = 20  # of one file
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET of linux/sched.h; os.unshare came with Python 3.12
_NO_NEW_PRIVILEGES = 38  # PR_SET_NO_NEW_PRIVS of linux/prctl.h


def confine() -> None:
    """Give up what is not needed to compute. Raises OSError when root cannot be given up."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        libc.unshare(_NEW_NETWORK)  # refused in some containers, where nothing is lost: no descriptor can be made below
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    limits = (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
    )
    for what, most in limits:
        resource.setrlimit(what, (most, most))


def main(cache: str) -> None:
    """Answer until standard input ends. Compiled rules are kept in the directory `cache`, made if need be."""
    from kingfisher_sdk import Rules, Scanner

    # Medium confidence adds pairs such as AWS's key and secret. Nested Base64 would cost ten times the time.
    scanner = Scanner(Rules(confidence="medium", cache_dir=cache), base64=False, redact=True)
    scanner.scan(b"warm")
    confine()
    source, answers = sys.stdin.buffer, sys.stdout
    while len(head := source.read(4)) == 4:
        data = source.read(int.from_bytes(head, "big"))
        try:
            found = scanner.scan(data, timeout=SECONDS)
        except (TimeoutError, MemoryError):
            answer = None
        else:
            told = [finding for finding in found if finding.visible and finding.confidence != "low"]
            answer = sorted({finding.rule_id.replace("/", ".").rpartition(".")[2] for finding in told})[:KINDS_MAX]
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
