"""The story that the demonstration plays: who does what, and what must be seen. Every step says what it saw."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from workspaces.demo.clients import Browser, Page, Ssh
from workspaces.engine import bootstrap, images

if TYPE_CHECKING:
    from workspaces.demo.stage import Stage

REASON = "Please leave the raw data out."
BEAT = "while :; do date +%s > als/.beat; mv als/.beat als/heartbeat; sleep 1; done"
LISTENER = "$s = IO::Socket::INET->new(Listen => 9, LocalPort => 4242) or die; sleep 60"


def base_name(home: Path) -> str:
    """The base image's name, another one for each demonstration: several may share one engine."""
    return f"debian-demo:{home.name.rpartition('-')[2]}"


def make_host(stage: Stage) -> str:
    """`workspaces init`: chief is the first administrator."""
    stage.passwords = {name: stage.password() for name in ("chief", "bob")}
    (stage.home / "workspaces.toml").write_text(
        f'[gateway]\nlisten = "127.0.0.1:{stage.ssh_port}"\n[web]\nlisten = "127.0.0.1:{stage.web_port}"\n',
        encoding="ascii",
    )
    stage.command("init", "--admin", "chief", "--password-file", "-", typed=stage.passwords["chief"] + "\n")
    key = (stage.home / "keys" / "ssh_host_ed25519_key.pub").read_text(encoding="ascii")
    known = stage.home / "known_hosts"
    known.write_text(f"[127.0.0.1]:{stage.ssh_port} {key}", encoding="ascii")
    alice_key = stage.home / "alice_ed25519"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "alice@laptop", "-f", str(alice_key)], check=True
    )
    stage.people["alice"] = Ssh("alice", stage.ssh_port, known, key=alice_key)
    stage.people["bob"] = Ssh("bob", stage.ssh_port, known, password=stage.passwords["bob"])
    return ""


def start_engine(stage: Stage) -> str:
    """Whichever engine answers, else a private one."""
    with stage.engine():
        return stage.command("engine", "status").strip().splitlines()[0]


def base_image(stage: Stage) -> str:
    """A base image from the distribution's mirror; its file system is kept in the cache for the next time."""
    base = base_name(stage.home)
    with stage.engine() as engine:
        image = bootstrap.build(engine, base, (), None, lambda *_: None, cache=stage.cache)
        said = "; ".join(str(finding) for finding in images.check(engine, base) if not finding.present)
    return f"{base}, {image.size >> 20} MiB{'; it lacks ' + said if said else ', with all that people expect'}"


def accounts(stage: Stage) -> str:
    """chief makes a challenge and two participants."""
    stage.command(
        "challenge", "add", "als", "--image", base_name(stage.home), "--memory", "1g", "--cpus", "1", "--pids", "256"
    )
    key = str(stage.home / "alice_ed25519.pub")
    stage.command("user", "add", "alice", "--challenge", "als", "--key", key)
    stage.command(
        "user", "add", "bob", "--challenge", "als", "--password-file", "-", typed=stage.passwords["bob"] + "\n"
    )
    return ""


def serve(stage: Stage) -> str:
    """`workspaces serve` says ready."""
    stage.start_processes()
    return f"ssh at 127.0.0.1:{stage.ssh_port}, web at http://127.0.0.1:{stage.web_port}/"


def first_login(stage: Stage) -> str:
    """alice's first login makes her container and lands in a shell."""
    seen = stage.people["alice"].shell(["echo in-$(hostname)-as-$(id -un)-on-$(tty | cut -c1-8)"])
    stage.expect("in-alice-as-root-on-/dev/pts" in seen, f"no shell in the workspace: {seen[-800:]}")
    stage.expect(len(stage.command_json("list", "--state", "running")) == 1, "not exactly one workspace runs")
    return "host name alice, root inside, a terminal of its own"


def work(stage: Stage) -> str:
    """A package, a file and a background process, as in a unix account."""
    alice = stage.people["alice"]
    alice.run("apt-get -qq update && apt-get -qq install -y --no-install-recommends tree >/dev/null 2>&1", timeout=180)
    alice.shell(
        [
            "mkdir -p als && echo 'slope = 0.42' > als/model.txt",
            f"nohup sh -c '{BEAT}' >/dev/null 2>&1 &",
            "until test -e als/heartbeat; do sleep 0.1; done",
        ]
    )
    return "apt-get install tree; als/model.txt written; a loop left running"


def come_back(stage: Stage) -> str:
    """After logout and login all is there, and the process still runs."""
    alice = stage.people["alice"]
    seen = alice.run("tree --noreport als; cat als/model.txt; pgrep -fc '[w]hile :' || true; cat als/heartbeat")
    stage.expect("slope = 0.42" in seen and "model.txt" in seen, f"the file or the package is gone: {seen}")
    before = int(seen.split()[-1])
    later = int(alice.run("sleep 1.2; cat als/heartbeat"))
    stage.expect(later > before, "the background process does not run any more")
    return "file and package are there, the loop still beats"


def bob_sees_nothing(stage: Stage) -> str:
    """bob, with a password, sees no file, process or address of alice."""
    bob = stage.people["bob"]
    seen = bob.run(
        "hostname; ls -A /root/als 2>/dev/null | wc -l; pgrep -fc '[w]hile :' || true; which tree || echo none"
    )
    stage.expect(seen.split() == ["bob", "0", "0", "none"], f"bob sees something of alice: {seen!r}")
    alice = stage.people["alice"]
    address = alice.run("hostname -I").split()[0]
    alice.run(f"setsid -f perl -MIO::Socket::INET -e '{LISTENER}' >/dev/null 2>&1 </dev/null")
    dial = f"until exec 3<>/dev/tcp/{address}/4242; do sleep 0.1; done"
    knock = f"timeout 2 bash -c '{dial}' 2>/dev/null && echo in || echo out"
    stage.expect(alice.run(knock).strip() == "in", "alice cannot reach her own address, so this proves nothing")
    stage.expect(bob.run(knock).strip() == "out", "bob reaches alice's network address")
    return "another host name, no file, no process, no way to her address"


def request_snapshots(stage: Stage) -> str:
    """`snapshot -m` in alice's container; the button on the web page as bob."""
    said = stage.people["alice"].run('snapshot -m "first submission"')
    browser = Browser(f"http://127.0.0.1:{stage.web_port}/")
    stage.browsers["bob"] = browser
    page = sign_in(stage, "bob")
    after = browser.submit(page, "/snapshots", message="my try")
    stage.expect("my try" in after.text, f"bob's page does not show the request: {after.text[-600:]}")
    return f"alice reads: {said.strip().splitlines()[0]}"


def sign_in(stage: Stage, name: str) -> Page:
    """Sign in on the web page; returns the page after it."""
    browser = stage.browsers.setdefault(name, Browser(f"http://127.0.0.1:{stage.web_port}/"))
    return browser.submit(browser.get("/login"), "/login", name=name, password=stage.passwords[name])


def decide(stage: Stage) -> str:
    """chief sees both, reads what changed, approves one and rejects the other with a reason."""
    sign_in(stage, "chief")
    browser = stage.browsers["chief"]
    ids = {s["requested_by"]: s["id"] for s in stage.command_json("snapshot", "list", "--state", "requested")}
    stage.expect(set(ids) == {"alice", "bob"}, f"the queue has {ids}")
    deadline = time.monotonic() + 30
    while True:
        queue = browser.get("/admin/")
        stage.expect(
            "first submission" in queue.text and "my try" in queue.text, f"not both requests: {queue.text[-600:]}"
        )
        changes = browser.get(f"/admin/snapshots/{ids['alice']}")
        if "model.txt" in changes.text:
            break
        stage.expect(time.monotonic() < deadline, f"the page does not tell what changed: {changes.text[-800:]}")
        threading.Event().wait(0.2)
    browser.submit(queue, f"/admin/snapshots/{ids['alice']}/approve")
    browser.submit(browser.get("/admin/"), f"/admin/snapshots/{ids['bob']}/reject", reason=REASON)
    stage.notes["snapshot"] = ids["alice"]
    return "in the queue: `first submission` with als/model.txt among its changes, `my try`"


def commit(stage: Stage) -> str:
    """The worker commits and archives, with progress to see."""
    messages: list[str] = []
    deadline = time.monotonic() + 120
    while True:
        snapshot = stage.command_json("snapshot", "show", str(stage.notes["snapshot"]))
        for job in reversed(stage.command_json("job", "list")):
            if job["kind"] in ("commit", "archive") and job["message"] and job["message"] not in messages:
                messages.append(job["message"])
        if snapshot["state"] == "archived":
            break
        stage.expect(snapshot["state"] != "failed", f"the snapshot failed: {snapshot['reason']}")
        stage.expect(time.monotonic() < deadline, f"not archived after 120 s: {messages}")
    stage.notes["digest"] = snapshot["manifest_digest"]
    stage.expect(snapshot["image_ref"] == "als/alice:v1", f"it is called {snapshot['image_ref']}")
    return "\n".join([*messages, f"als/alice:v1 archived as {snapshot['manifest_digest'][:19]}…"])


def runs_anywhere(stage: Stage) -> str:
    """The version runs as a plain image, with the base image's own entry point, and its archive is whole."""
    with stage.engine() as engine:
        said = engine.run("als/alice:v1", ("cat", "/root/als/model.txt")).stdout.decode(errors="replace")
        base, version = engine.image(base_name(stage.home)), engine.image("als/alice:v1")
    stage.expect("slope = 0.42" in said, f"the image does not have the file: {said}")
    stage.expect(base is not None and version is not None, "an image is gone")
    assert base is not None
    assert version is not None
    for name in ("Entrypoint", "Cmd", "User", "WorkingDir", "Env"):
        mine, theirs = version.config.values.get(name), base.config.values.get(name)
        stage.expect((mine or None) == (theirs or None), f"{name} is {mine}, the base image's is {theirs}")
    stage.command("archive", "verify")
    return "same Entrypoint, Cmd, User, WorkingDir and Env as its base; every archived blob re-hashed"


def restore(stage: Stage) -> str:
    """The workspace is broken, chief restores v1 on the web page, the files are back."""
    alice = stage.people["alice"]
    alice.run("rm -rf /root/als /usr/bin/tree /etc/apt; ls /root/als 2>/dev/null || true")
    browser = stage.browsers["chief"]
    path = f"/admin/snapshots/{stage.notes['snapshot']}/restore"
    browser.submit(browser.get(path), path, typed="als/alice")
    deadline = time.monotonic() + 60
    while True:
        jobs = [j for j in stage.command_json("job", "list") if j["kind"] == "restore"]
        stage.expect(bool(jobs), "there is no restore job")
        if jobs[0]["state"] == "done":
            break
        stage.expect(jobs[0]["state"] != "failed", f"the restore failed: {jobs[0]['error']}")
        stage.expect(time.monotonic() < deadline, "the restore takes more than 60 s")
    seen = alice.run("cat als/model.txt; which tree; ls /etc/apt")
    stage.expect("slope = 0.42" in seen and "/usr/bin/tree" in seen, f"the files are not back: {seen}")
    return "rm -rf, restore, and als/model.txt is back"


def outcome(stage: Stage) -> str:
    """alice sees her versions, bob the reason."""
    versions = stage.people["alice"].run("snapshot list")
    stage.expect("v1" in versions and "first submission" in versions, f"alice does not see v1: {versions}")
    page = stage.browsers["bob"].get("/")
    stage.expect(REASON in page.text, f"bob does not see the reason: {page.text[-800:]}")
    return f"{versions.strip().splitlines()[-1]}\nbob reads: {REASON}"


STEPS: tuple[tuple[str, Callable[[Stage], str]], ...] = (
    ("a state directory, with chief as administrator", make_host),
    ("an engine", start_engine),
    ("a base image from the distribution's mirror", base_image),
    ("chief makes the challenge als, and the accounts alice (key) and bob (password)", accounts),
    ("gateway, web application and worker", serve),
    ("alice's first login makes her container", first_login),
    ("alice installs a package, edits a file, leaves a process running", work),
    ("alice logs in again", come_back),
    ("bob logs in", bob_sees_nothing),
    ("alice says `snapshot -m`, bob presses the button", request_snapshots),
    ("chief reads what changed, approves the first, rejects the second", decide),
    ("the worker commits and archives", commit),
    ("als/alice:v1 runs anywhere", runs_anywhere),
    ("alice breaks her workspace, chief restores v1", restore),
    ("alice sees her version, bob the reason", outcome),
)
