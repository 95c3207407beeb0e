"""Who gets what from each route: one line for each. `tests/test_web_access.py` tries them all.

    "METHOD endpoint": reviewers(OK)          a new route needs one line here, and fails the tests without

Who asks, about things of alice in challenge als, and of bob's account:

    visitor · other (bob) · owner (alice) · rita, reviewer of als · otto, administrator of bci
    · ada, administrator of als · chief, administrator of the host

A reviewer of the whole host (hugo) gets on the pages what rita gets in als; that is tried too.
A list is opened with a right that is held anywhere, so otto gets it; that nothing of als is in it is looked at as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

from workspaces.roster import Plan, Step
from workspaces.roster import Row as Person

SIGN_IN, OK, DONE, FORBIDDEN, MISSING, CONFLICT = "sign in", 200, 302, 403, 404, 409
WHO = (None, "bob", "alice", "rita", "otto", "ada", "chief")

PASSWORD = "correct horse"
NEW_PASSWORD = {"current": PASSWORD, "new": "another long one", "again": "another long one"}
SEEN = Plan((Step(Person(2, "nobody-new"), ("account",)),), ()).mark  # of what the page would show
NEW_USER = {"name": "carla", "challenge": "als", "password": "another long one"}


@dataclass(frozen=True)
class Row:
    """What each of WHO gets: a status, or to the sign-in page. `data` is a form that would work.

    `state` is that of the snapshot, and `job` that of the job, which the address names.
    """

    visitor: object
    other: object
    owner: object
    reviewer: object
    outsider: object
    challenge_admin: object
    admin: object
    data: dict[str, str] = field(default_factory=dict)
    state: str = "requested"
    job: str = "queued"

    def outcomes(self) -> dict[str | None, object]:
        said = (self.visitor, self.other, self.owner, self.reviewer, self.outsider, self.challenge_admin, self.admin)
        return dict(zip(WHO, said, strict=True))

    def on(self, state: str = "requested", job: str = "queued", **data: str) -> Row:
        """The same, about a snapshot in `state` and a job in state `job`, with a form."""
        return replace(self, state=state, job=job, data=data or self.data)


def same(result: object, visitor: object = SIGN_IN) -> Row:
    """For everybody who is signed in."""
    return Row(visitor, result, result, result, result, result, result)


def own(result: object, missing: object = MISSING) -> Row:
    """For the owner of the thing alone."""
    return Row(SIGN_IN, missing, result, missing, missing, missing, missing)


def listing(*, host: bool = False) -> Row:
    """A list for all who have its right anywhere; `host` for those of a right of the host."""
    some = FORBIDDEN if host else OK
    return Row(SIGN_IN, FORBIDDEN, FORBIDDEN, some, some, some, OK)


def reviewers(result: object) -> Row:
    """A thing of als for its reviewers, its administrators and those of the host."""
    return Row(SIGN_IN, FORBIDDEN, FORBIDDEN, result, MISSING, result, result)


def challenge_admins(result: object) -> Row:
    """A thing of als for its administrators and those of the host; reviewers see it, and so are told."""
    return Row(SIGN_IN, FORBIDDEN, FORBIDDEN, FORBIDDEN, MISSING, result, result)


def host_admins(result: object) -> Row:
    return Row(SIGN_IN, FORBIDDEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, result)


def tellers(result: object) -> Row:
    """A page for all who may tell something to the people of any challenge."""
    return Row(SIGN_IN, FORBIDDEN, FORBIDDEN, FORBIDDEN, result, result, result)


everyone = partial(same, visitor=OK)
seen = Row(SIGN_IN, MISSING, OK, OK, MISSING, OK, OK)  # a thing of alice in als, for her and those who see als

# Each websocket, opened from a page of this site: 101 is a connection.
SOCKETS: dict[str, Row] = {
    "me.terminal_socket": Row(401, MISSING, 101, MISSING, MISSING, MISSING, MISSING),
}
# Each topic of the event stream.
TOPICS: dict[str, Row] = {
    "me": same(OK),
    "account": same(400),  # for the program itself
    "queue": listing(),
    "workspaces": listing(),
    "jobs": listing(),
    "sessions": listing(),
    "overview": listing(),
    "workspace:{workspace_id}": seen,
    "workspace:999": same(MISSING),
    "job:{job_id}": seen,
    "job:{host_job_id}": Row(SIGN_IN, MISSING, MISSING, MISSING, MISSING, MISSING, OK),
}

MATRIX: dict[str, Row] = {
    "GET static": everyone(OK),
    "GET healthz": everyone(OK),
    "GET readyz": same(503, 503),  # without a worker
    "GET metrics": everyone(OK),  # from loopback
    "GET api.openapi": everyone(OK),
    "GET api.docs": everyone(OK),
    "GET start": same(DONE),
    "GET auth.login": same(DONE, OK),
    "POST auth.login": same(DONE, DONE).on(name="bob", password=PASSWORD),
    "POST auth.logout": same(DONE, DONE),
    "GET auth.second": same(FORBIDDEN, FORBIDDEN),  # without the right password before it
    "POST auth.second": same(FORBIDDEN, FORBIDDEN).on(code="x"),
    "POST passkeys.sign_in_options": everyone(OK),
    "POST passkeys.sign_in": same(FORBIDDEN, FORBIDDEN),
    "POST passkeys.second_options": same(FORBIDDEN, FORBIDDEN),
    "POST passkeys.second": same(FORBIDDEN, FORBIDDEN),
    "GET oidc.sign_in": same(MISSING, MISSING),  # on a host without a provider
    "GET oidc.callback": same(FORBIDDEN, FORBIDDEN),
    "GET invite.page": everyone(OK),
    "POST invite.accept": same(DONE, DONE).on(new="another long one", again="another long one"),
    "GET invite.with_provider": same(MISSING, MISSING),
    "GET confirm.page": same(OK),
    "POST confirm.answer": same(DONE).on(password=PASSWORD),
    "POST own_passkeys.confirm_options": same(OK),
    "POST own_passkeys.confirm_with": same(FORBIDDEN),
    "GET own_oidc.confirm_with": same(MISSING),
    "GET me.page": same(OK),
    "GET me.live_spaces": same(OK),
    "GET me.workspace": own(OK),
    "GET me.live_space": own(OK),
    "GET me.usage_of": own(OK),
    "POST me.act": own(DONE),
    "GET me.reset": own(OK),
    "POST me.reset": own(DONE).on(typed="als/alice"),
    "GET me.sessions": same(OK),
    "POST me.end_session": own(DONE),
    "POST me.request_snapshot": own(DONE).on(message="first"),
    "POST me.withdraw": own(DONE),
    "POST me.read_news": same(DONE),
    "GET me.download": own(FORBIDDEN),  # not before the challenge allows it
    "POST me.add_key": same(DONE).on(key="{key}"),
    "POST me.remove_key": own(DONE),
    "POST me.change_password": same(DONE).on(**NEW_PASSWORD),
    "GET account.page": same(OK),
    "POST account.end_sign_in": own(DONE),
    "POST account.end_sign_ins": same(DONE),
    "GET tokens.page": same(OK),
    "POST tokens.add": same(OK).on(name="program", scope="read", days="3"),
    "POST tokens.remove": own(DONE),
    "GET account.codes": same(OK),
    "POST account.set_codes": same(400).on(code="1"),
    "GET account.remove_codes": same(OK),
    "POST account.remove_codes": same(DONE),
    "POST account.new_recovery_codes": same(CONFLICT),
    "GET own_passkeys.add_page": same(OK),
    "POST own_passkeys.add_options": same(OK),
    "POST own_passkeys.add": same(FORBIDDEN),
    "POST own_passkeys.name": own(DONE).on(name="telephone"),
    "GET own_passkeys.remove": own(OK),
    "POST own_passkeys.remove": own(DONE),
    "GET own_oidc.link": same(MISSING),
    "POST own_oidc.unlink": own(DONE),
    "GET admin.queue": listing(),
    "GET admin.live_queue": listing(),
    "GET admin.snapshot": reviewers(OK),
    "GET admin.live_snapshot": reviewers(OK),
    "POST admin.approve": reviewers(DONE),
    "POST admin.reject": reviewers(DONE).on(reason="not yet"),
    "POST admin.inspect": reviewers(DONE),
    "POST admin.retry": reviewers(DONE).on("failed"),
    "GET admin.restore": challenge_admins(OK).on("committed"),
    "POST admin.restore": challenge_admins(DONE).on("committed", typed="als/committed"),
    "GET admin.workspaces": listing(),
    "GET admin.live_workspaces": listing(),
    "GET admin.workspace": reviewers(OK),
    "GET admin.live_workspace": reviewers(OK),
    "POST admin.act": challenge_admins(DONE),
    "POST admin.set_limits": challenge_admins(DONE).on(cpus="2"),
    "POST admin.add_member": challenge_admins(DONE).on(name="bob"),
    "GET admin.remove_member": challenge_admins(OK),
    "POST admin.remove_member": challenge_admins(DONE),
    "GET admin.remove": challenge_admins(OK),
    "POST admin.remove": challenge_admins(DONE).on(typed="als/alice"),
    "GET admin.versions": reviewers(OK),
    "GET admin.live_versions": reviewers(OK),
    "GET admin.changes": challenge_admins(OK),
    "GET admin.live_changes": challenge_admins(OK),
    "POST admin.look_at_changes": challenge_admins(DONE),
    "GET admin.diff": reviewers(OK),
    "GET admin.live_diff": reviewers(OK),
    "POST admin.compare": reviewers(MISSING).on(old="1", new="2"),  # there are no such versions
    "POST admin.pin": challenge_admins(DONE).on("committed", pinned="yes"),
    "GET admin.download": challenge_admins(CONFLICT),  # not before it is archived
    "GET admin.reset": challenge_admins(OK),
    "POST admin.reset": challenge_admins(DONE).on(typed="als/alice"),
    "GET following.live": same(400),  # it names no topic
    "GET me.terminal": own(OK),
    "GET me.terminal_socket": own(426),  # it is no websocket
    "GET admin.overview": listing(),
    "POST admin.bulk": replace(listing(), outsider=400).on(action="start", all="yes"),
    "POST admin.decide": listing().on(action="approve", id="1"),
    "GET admin.live_overview": listing(),
    "GET admin.users": listing(host=True),
    "GET admin.import_users": listing(host=True),
    "POST admin.check_users": host_admins(DONE).on(text="name\nnobody-new\n", do="yes", seen=SEEN),
    "GET admin.export_users": listing(host=True),
    "POST admin.add_user": host_admins(DONE).on(**NEW_USER),
    "GET admin.user": host_admins(OK),
    "POST admin.set_password": host_admins(DONE).on(password="another long one"),
    "POST admin.set_disabled": host_admins(DONE),
    "POST admin.invite": host_admins(OK),
    "POST admin.withdraw_invitation": host_admins(DONE),
    "POST admin.set_role": host_admins(DONE).on(role="reviewer", challenge="als"),
    "POST admin.remove_factors": host_admins(DONE),
    "POST admin.sign_out": host_admins(DONE),
    "POST admin.unlink": host_admins(DONE),
    "GET admin.jobs": listing(),
    "GET admin.live_jobs": listing(),
    "GET admin.job": reviewers(OK),
    "GET admin.live_job": reviewers(OK),
    "POST admin.retry_job": challenge_admins(DONE).on(job="cancelled"),
    "POST admin.retry_failed": host_admins(DONE),
    "POST admin.cancel_job": challenge_admins(DONE),
    "GET admin.events": listing(host=True),
    "GET admin.sessions": listing(),
    "GET admin.live_sessions": listing(),
    "GET admin.session": reviewers(OK),
    "GET admin.live_session": reviewers(OK),
    "GET admin.end_session": challenge_admins(OK),
    "POST admin.end_session": challenge_admins(DONE),
    "POST admin.look": challenge_admins(DONE),
    "GET admin.screen": challenge_admins(DONE),  # not before the look is in the record
    "GET admin.stream_session": challenge_admins(FORBIDDEN),
    "GET admin.recording": challenge_admins(FORBIDDEN),
    "POST admin.export_session": challenge_admins(CONFLICT),  # not while it goes on
    "GET admin.announcements": tellers(OK),
    "POST admin.announcements": replace(
        challenge_admins(DONE), data={"text": "x", "challenge": "als", "do": "announce"}
    ),
    "POST admin.end_announcement": challenge_admins(DONE).on(announcement="1"),
    "POST announcements.dismiss": same(DONE),
    "GET admin.challenges": listing(),
    "GET admin.live_challenges": listing(),
    "GET admin.challenge": reviewers(OK),
    "GET admin.live_challenge": reviewers(OK),
    "GET admin.edit_challenge": challenge_admins(OK),
    "POST admin.edit_challenge": challenge_admins(DONE).on(cpus="2"),
    "GET admin.add_challenge": host_admins(OK),
    "POST admin.add_challenge": host_admins(DONE).on(slug="new", image="base:1"),
    "GET admin.freeze": challenge_admins(OK),
    "POST admin.freeze": challenge_admins(DONE).on(typed="als", mode="commit"),
    "GET admin.frozen": reviewers(OK),
    "GET admin.live_frozen": reviewers(OK),
    "POST admin.thaw": challenge_admins(CONFLICT),  # it is thawed
    "GET admin.images": listing(host=True),
    "GET admin.live_images": listing(host=True),
    "POST admin.look_at_images": host_admins(DONE),
    "GET admin.archive": listing(host=True),
    "GET admin.live_archive": listing(host=True),
    "POST admin.look_at_archive": host_admins(DONE),
    "GET admin.collect": host_admins(CONFLICT),  # nobody has looked what would be deleted
    "POST admin.collect": host_admins(CONFLICT),
    "GET admin.prune": host_admins(MISSING),  # no challenge is named
    "POST admin.prune": host_admins(MISSING),
}
