"""The API does what the pages do: each form of theirs has its operations here, or says why it has none.

A new form without a line fails. That the operations do the same, with the same rights, is for their own tests.
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
    "admin.set_password": "passwords do not pass through the API: people set their own, by an invitation",
}


def test_each_form_has_its_operations(web: Web) -> None:
    forms = {
        rule.endpoint
        for rule in web.app.url_map.iter_rules()
        if "POST" in (rule.methods or ()) and rule.endpoint.partition(".")[0] != routes.bp.name
    }
    assert forms == COVERED.keys() | NONE.keys()
    assert not COVERED.keys() & NONE.keys()


def test_the_operations_are_there() -> None:
    known = {operation.name for operation in OPERATIONS}
    wanted = {name for names in COVERED.values() for name in names.split()}
    assert wanted <= known, wanted - known
