"""The API does what the pages do: each form and page has its operations here, or says why it has none.

A new one without a line fails. That the operations do the same, with the same rights, is for their own tests.
"""

from __future__ import annotations

from tests.support.web import Web, web_fixture
from webadmin.api import routes
from webadmin.api.operations import OPERATIONS

__all__ = ["web_fixture"]

# endpoint of a page's form → operations of the API, by name
COVERED: dict[str, str] = {
    # one's own
    "me.act": "start_workspace stop_workspace restart_workspace",
    "me.reset": "reset_workspace",
    "me.end_session": "end_session",
    "me.request_snapshot": "request_snapshot",
    "me.withdraw": "withdraw_snapshot",
    "me.add_key": "add_my_key",
    "me.remove_key": "remove_my_key",
    "me.read_news": "read_my_news",
    "tokens.remove": "remove_my_token",
    "account.end_sign_in": "end_my_sign_in",
    "account.end_sign_ins": "end_my_sign_ins",
    # people
    "admin.add_user": "add_user",
    "admin.check_users": "check_roster enrol_roster",
    "admin.set_disabled": "disable_user enable_user",
    "admin.set_role": "set_role set_challenge_role remove_challenge_role",
    "admin.invite": "invite_user",
    "admin.withdraw_invitation": "withdraw_invitation",
    "admin.remove_factors": "remove_factors",
    "admin.sign_out": "sign_out_user",
    "admin.unlink": "unlink_user",
    # what they are told
    "admin.announcements": "announce",
    "admin.end_announcement": "end_announcement",
    "announcements.dismiss": "dismiss_announcement",
    # requests and versions
    "admin.approve": "approve_snapshot",
    "admin.reject": "reject_snapshot",
    "admin.decide": "decide_snapshots",
    "admin.inspect": "inspect_snapshot",
    "admin.retry": "retry_snapshot",
    "admin.pin": "pin_snapshot unpin_snapshot",
    "admin.restore": "restore_snapshot",
    # workspaces
    "admin.act": "start_workspace stop_workspace restart_workspace",
    "admin.bulk": "bulk_workspaces message_workspaces",
    "admin.set_limits": "set_workspace_limits",
    "admin.add_member": "add_member",
    "admin.remove_member": "remove_member",
    "admin.reset": "reset_workspace",
    "admin.remove": "remove_workspace",
    "admin.look_at_changes": "look_at_changes",
    "admin.compare": "compare_versions",
    # jobs and sessions
    "admin.retry_job": "retry_job",
    "admin.cancel_job": "cancel_job",
    "admin.retry_failed": "retry_failed_jobs",
    "admin.end_session": "end_session",
    "admin.look": "look_at_session",
    "admin.export_session": "export_session",
    # challenges, images and the archive
    "admin.add_challenge": "add_challenge",
    "admin.edit_challenge": "set_challenge",
    "admin.freeze": "freeze_challenge",
    "admin.thaw": "thaw_challenge",
    "admin.look_at_images": "look_at_images",
    "admin.look_at_archive": "look_at_archive",
    "admin.collect": "collect_archive",
    "admin.prune": "prune_archive",
}

# endpoint of a page → operations that tell what is on it
SHOWN: dict[str, str] = {
    # one's own
    "me.page": "list_my_workspaces list_my_news list_my_keys show_door",
    "me.workspace": "show_workspace list_workspace_snapshots list_workspace_sessions show_changes show_door",
    "me.usage_of": "show_usage",
    "me.sessions": "list_my_sessions",
    "me.download": "download_version",
    "account.page": "show_me show_user list_my_sign_ins list_my_announcements",
    "tokens.page": "list_my_tokens",
    # requests, versions, workspaces
    "admin.overview": "show_overview",
    "admin.queue": "list_snapshots",
    "admin.snapshot": "show_snapshot show_changes",
    "admin.download": "download_version",
    "admin.workspaces": "list_workspaces",
    "admin.workspace": "show_workspace show_usage list_workspace_sessions list_workspace_events list_jobs",
    "admin.versions": "list_workspace_snapshots",
    "admin.changes": "show_workspace_changes",
    "admin.diff": "show_diff",
    # people
    "admin.users": "list_users",
    "admin.user": "show_user",
    "admin.export_users": "list_users",
    "admin.events": "list_events",
    # jobs and sessions
    "admin.jobs": "list_jobs",
    "admin.job": "show_job show_job_log show_found follow_events",
    "admin.sessions": "list_sessions",
    "admin.session": "show_session show_recording",
    "admin.screen": "look_at_session export_session",
    "admin.stream_session": "look_at_session",
    "admin.recording": "export_session",
    # challenges, images and the archive
    "admin.challenges": "list_challenges",
    "admin.challenge": "show_challenge show_figures list_freezes",
    "admin.frozen": "show_freeze",
    "admin.images": "list_images",
    "admin.archive": "show_archive list_archive_findings list_due",
}

_SIGNING = "a browser signs in and out; a program shows its token"
_PROOF = "the person himself, with what proves who he is, and not with a token that may be another's by now"

# endpoint of a page's form → why the API has nothing of the kind
NONE: dict[str, str] = {
    "auth.login": _SIGNING,
    "auth.second": _SIGNING,
    "auth.logout": _SIGNING,
    "passkeys.sign_in": _SIGNING,
    "passkeys.sign_in_options": _SIGNING,
    "passkeys.second": _SIGNING,
    "passkeys.second_options": _SIGNING,
    "confirm.answer": "what a token may do is in its scopes, and not asked for again",
    "own_passkeys.confirm_options": "the same",
    "own_passkeys.confirm_with": "the same",
    "invite.accept": "who has no account yet has no token either",
    "me.change_password": _PROOF,
    "account.set_codes": _PROOF,
    "account.remove_codes": _PROOF,
    "account.new_recovery_codes": _PROOF,
    "own_passkeys.add": _PROOF,
    "own_passkeys.add_options": _PROOF,
    "own_passkeys.name": _PROOF,
    "own_passkeys.remove": _PROOF,
    "own_oidc.unlink": _PROOF,
    "tokens.add": "a token that makes tokens would outlive its own removal",
    # pages
    "start": "leads to a page",
    "static": "files of the pages",
    "healthz": "is for programs",
    "readyz": "is for programs",
    "metrics": "is for programs",
    "following.live": "keeps pages up to date; programs have /events",
    "me.terminal": "a program uses ssh",
    "me.terminal_socket": "a program uses ssh",
    "confirm.page": _SIGNING,
    "oidc.sign_in": _SIGNING,
    "oidc.callback": _SIGNING,
    "own_oidc.confirm_with": _SIGNING,
    "invite.page": "who has no account yet has no token either",
    "invite.with_provider": "who has no account yet has no token either",
    "account.codes": _PROOF,
    "own_passkeys.add_page": _PROOF,
    "own_oidc.link": _PROOF,
    "admin.import_users": "an empty form",
    "admin.set_password": "passwords do not pass through the API: people set their own, by an invitation",
}


def test_each_form_and_page_has_its_operations(web: Web) -> None:
    ours = [rule for rule in web.app.url_map.iter_rules() if rule.endpoint.partition(".")[0] != routes.bp.name]
    forms = {rule.endpoint for rule in ours if "POST" in (rule.methods or ())}
    # A page's live parts (live_…) say what it says.
    pages = {rule.endpoint for rule in ours if ".live_" not in rule.endpoint} - forms
    assert forms == COVERED.keys() | (NONE.keys() & forms)
    assert pages == SHOWN.keys() | (NONE.keys() & pages)
    assert forms | pages == COVERED.keys() ^ SHOWN.keys() ^ NONE.keys(), "each stands in one table"


def test_the_operations_are_there() -> None:
    known = {operation.name for operation in OPERATIONS}
    wanted = {name for names in (*COVERED.values(), *SHOWN.values()) for name in names.split()}
    assert wanted <= known, wanted - known
