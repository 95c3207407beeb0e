"""Who gets what from each operation of the API: one line for each. `tests/test_api_access.py` tries them all.

    "operation": admins(202).on(confirm="als/alice")     a new operation needs one line, and fails the tests without

Who asks is as in matrix.py, each with a token that has every scope that he can give one. Without a token it is 401.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

WHO = ("bob", "alice", "rita", "otto", "ada", "chief")


@dataclass(frozen=True)
class Row:
    """The status for each of WHO. `body` is one that would work, `query` what the address needs.

    `state` is that of the snapshot, `job` that of the job, and `account` the account which the address names.
    """

    statuses: tuple[int, ...]
    body: dict[str, object] = field(default_factory=dict)
    state: str = "requested"
    job: str = "queued"
    query: str = ""
    noted: bool = False  # looking is in the record
    account: str = "bob"

    def outcomes(self) -> dict[str, int]:
        return dict(zip(WHO, self.statuses, strict=True))

    def on(
        self, state: str = "requested", job: str = "queued", query: str = "", account: str = "bob", **body: object
    ) -> Row:
        return replace(self, state=state, job=job, query=query, account=account, body=body)


def same(status: int) -> Row:
    """For everybody."""
    return Row((status,) * len(WHO))


def own(status: int) -> Row:
    """A thing of alice, for her alone."""
    return Row((404, status, 404, 404, 404, 404))


def tellers(status: int) -> Row:
    """Something to tell the people of als; others have no token for that, and otto tells those of bci."""
    return Row((403, 403, 403, 404, status, status))


def seen(status: int) -> Row:
    """A thing of alice, for her and those who see als."""
    return Row((404, status, status, 404, status, status))


def of_challenge(status: int) -> Row:
    """A thing of als that is nobody's own."""
    return Row((404, 404, status, 404, status, status))


def listing(status: int) -> Row:
    """A list for all who have its right anywhere."""
    return Row((403, 403, status, status, status, status))


def own_or_admins(status: int) -> Row:
    """What a member may do, and administrators of als; its reviewers see it, and so are told."""
    return Row((404, status, 403, 404, status, status))


def admins(status: int) -> Row:
    """What administrators of als may do; a member and its reviewers see it."""
    return Row((404, 403, 403, 404, status, status))


def deciders(status: int) -> Row:
    return Row((404, 403, status, 404, status, status))


def rules(status: int) -> Row:
    """What of a challenge its administrators change; others have no token for that."""
    return Row((403, 403, 403, 404, status, status))


def host(status: int) -> Row:
    return Row((403, 403, 403, 403, 403, status))


OPERATIONS: dict[str, Row] = {
    "show_me": same(200),
    "end_token": same(204),
    "list_my_tokens": same(200),
    "remove_my_token": own(204),
    "list_my_workspaces": same(200),
    "list_my_keys": same(200),
    "list_my_sessions": same(200),
    "show_door": own(200),
    "add_my_key": same(201).on(key="{key}"),
    "remove_my_key": own(204),
    "list_my_sign_ins": same(200),
    "end_my_sign_ins": same(200),
    "end_my_sign_in": own(204),
    "list_my_news": same(200),
    "read_my_news": same(204).on(up_to=10**6),
    "list_my_announcements": same(200),
    "dismiss_announcement": same(204),
    "list_workspaces": same(200),
    "show_workspace": seen(200),
    "list_workspace_sessions": seen(200),
    "start_workspace": own_or_admins(202),
    "stop_workspace": own_or_admins(202),
    "restart_workspace": own_or_admins(202),
    "reset_workspace": own_or_admins(202).on(confirm="als/alice"),
    "request_snapshot": own_or_admins(201).on(message="v1"),
    "show_usage": seen(200),
    "list_workspace_events": deciders(200),
    "remove_workspace": admins(202).on(confirm="als/alice"),
    "set_workspace_limits": admins(202).on(cpus=2.0),
    "look_at_changes": admins(202),
    "show_workspace_changes": admins(404),  # nobody has looked
    "compare_versions": deciders(404).on(old=1, new=2),  # there are none
    "show_diff": deciders(404).on(query="?old=1&new=2"),
    "bulk_workspaces": Row((403, 403, 200, 422, 200, 200)).on(action="start", q=""),  # otto sees none
    "message_workspaces": Row((403, 403, 403, 422, 200, 200)).on(text="hello", q=""),
    "add_member": admins(200),
    "remove_member": admins(204),
    "list_snapshots": same(200),
    "list_workspace_snapshots": seen(200),
    "show_snapshot": seen(200),
    "show_changes": seen(404),  # it has not been looked into
    "approve_snapshot": deciders(202),
    "reject_snapshot": deciders(200).on(reason="not yet"),
    "withdraw_snapshot": own_or_admins(200),
    "decide_snapshots": listing(200).on(action="approve", ids=[1]),
    "download_version": admins(409).on("committed"),  # it is not archived
    "retry_snapshot": deciders(202).on("failed"),
    "inspect_snapshot": deciders(202),
    "pin_snapshot": admins(200).on("committed"),
    "unpin_snapshot": admins(200).on("committed"),
    "restore_snapshot": admins(202).on("committed", confirm="als/committed"),
    "list_jobs": listing(200),
    "show_job": seen(200),
    "show_job_log": seen(200),
    "show_found": deciders(404),
    "retry_failed_jobs": host(200),
    "show_overview": listing(200),
    "retry_job": Row((403, 404, 403, 404, 202, 202)).on(job="cancelled"),  # bob's
    "cancel_job": admins(202),
    "set_job_priority": admins(200).on(priority=9),
    "follow_events": seen(200).on(query="?workspace={workspace_id}"),
    "list_sessions": same(200),
    "show_session": seen(200),
    "show_recording": seen(200),
    "export_session": Row((404, 404, 403, 404, 409, 409)),  # it goes on
    "look_at_session": Row((404, 404, 403, 404, 200, 200), noted=True),
    "end_session": own_or_admins(200),
    "list_events": host(200),
    "list_users": host(200),
    "show_user": Row((200, 403, 403, 403, 403, 200)),  # bob
    "add_user": host(201).on(name="dora", challenge="als"),
    "disable_user": host(200),
    "enable_user": host(200),
    "set_role": host(200).on(role="reviewer"),
    "set_challenge_role": host(200).on(role="reviewer"),
    "remove_challenge_role": host(200),
    "invite_user": host(201),
    "withdraw_invitation": host(204),
    "remove_factors": host(200),
    "sign_out_user": host(200),
    "unlink_user": host(204).on(account="alice"),
    "check_roster": host(200).on(text="name\nnobody-new\n"),
    "enrol_roster": host(200).on(text="name\nnobody-new\n"),
    "list_announcements": Row((403, 403, 403, 200, 200, 200)),
    "announce": tellers(201).on(text="x", challenge="als"),
    "end_announcement": tellers(200),
    "list_challenges": listing(200),
    "show_challenge": of_challenge(200),
    "add_challenge": host(201).on(slug="new", image="base:1"),
    "set_challenge": rules(200).on(cpus=2.0),
    "freeze_challenge": rules(202).on(confirm="als"),
    "thaw_challenge": rules(409),  # it is not frozen
    "list_freezes": of_challenge(200),
    "show_freeze": of_challenge(200),
    "show_figures": of_challenge(200),
    "show_archive": host(200),
    "list_archive_findings": host(200),
    "look_at_archive": host(202).on(kind="gc"),
    "collect_archive": host(409).on(confirm="archive"),  # nobody has looked what would go
    "list_due": host(404),  # its rules keep every version
    "prune_archive": host(404).on(confirm="als"),
    "list_images": host(200),
    "look_at_images": host(202),
}
