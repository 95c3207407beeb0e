"""Words that come from the store, such as states, in the reader's language. Each is marked here for translators."""

from __future__ import annotations

from webadmin.i18n import N_, _

MONTHS = (
    *(N_("January"), N_("February"), N_("March"), N_("April"), N_("May"), N_("June")),
    *(N_("July"), N_("August"), N_("September"), N_("October"), N_("November"), N_("December")),
)
WORDS = frozenset(
    (
        # states of workspaces, snapshots, jobs, deliveries and freezes
        *(N_("absent"), N_("starting"), N_("running"), N_("stopped"), N_("failed")),
        *(N_("requested"), N_("approved"), N_("committing"), N_("committed"), N_("archived")),
        *(N_("rejected"), N_("withdrawn"), N_("queued"), N_("done"), N_("cancelled"), N_("cancelling"), N_("stalled")),
        *(N_("waiting"), N_("sent"), N_("dead"), N_("unchanged"), N_("never started")),
        # what jobs wait for
        *(N_("engine"), N_("registry")),
        # kinds of jobs
        *(N_("inspect"), N_("commit"), N_("archive"), N_("push"), N_("sbom"), N_("restore"), N_("start"), N_("stop")),
        *(N_("restart"), N_("reset"), N_("remove"), N_("freeze"), N_("thaw"), N_("limits"), N_("look"), N_("diff")),
        *(N_("verify"), N_("gc"), N_("usage"), N_("prune"), N_("images")),
        # of challenges
        *(N_("closed"), N_("planned"), N_("frozen")),
        # kinds of sessions
        *(N_("shell"), N_("exec"), N_("sftp"), N_("forward")),
        # how sessions and announcements are
        *(N_("on"), N_("ended"), N_("info"), N_("warning"), N_("urgent")),
        # roles, and what accounts are
        *(N_("participant"), N_("reviewer"), N_("admin"), N_("disabled")),
        # networks, forwarding, freezes, lists of packages
        *(N_("open"), N_("none"), N_("local"), N_("remote"), N_("agent"), N_("x11"), N_("read-only")),
        *(N_("spdx"), N_("cyclonedx")),
        # how urgent an announcement is, what is recorded
        *(N_("info"), N_("warning"), N_("urgent"), N_("terminals")),
        # what changed
        *(N_("added"), N_("changed"), N_("removed")),
    )
)


def word(name: str) -> str:
    """A state, role or kind of job in the reader's language; anything else as it is."""
    return _(name) if name in WORDS else name
