"""The two clients of the story: OpenSSH's program, and a browser without JavaScript over `requests`."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import requests


class StepFailed(Exception):
    """A step did not see what the story says; the message has what it saw."""


@dataclass(frozen=True)
class Ssh:
    """One person at an `ssh` program that knows the gateway's host key and nothing else of this host's settings."""

    user: str
    port: int
    known_hosts: Path
    key: Path | None = None
    password: str | None = None

    def line(self, *options: str) -> list[str]:
        """The command, up to the destination."""
        trust = [
            "-o",
            f"UserKnownHostsFile={self.known_hosts}",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "LogLevel=ERROR",
        ]
        if self.key:
            way = ["-i", str(self.key), "-o", "IdentitiesOnly=yes", "-o", "PreferredAuthentications=publickey"]
        else:
            way = ["-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1"]
        return ["ssh", "-F", "/dev/null", *trust, *way, *options, "-p", str(self.port), f"{self.user}@127.0.0.1"]

    def _environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}
        if self.password is not None:
            # ssh asks this program for the password (SSH_ASKPASS in ssh(1)), so that it is on no command line
            helper = self.known_hosts.with_name(f"askpass-{self.user}")
            helper.write_text(f"#!/bin/sh\ncat <<'END'\n{self.password}\nEND\n", encoding="ascii")
            helper.chmod(0o700)
            environment |= {"SSH_ASKPASS": str(helper), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":none"}
        return environment

    def run(self, command: str, timeout: float = 120) -> str:
        """Run one command without a terminal; returns its output. StepFailed when it does not end with 0."""
        done = subprocess.run(
            [*self.line(), command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=self._environment(),
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace").strip()
            raise StepFailed(f"`ssh {self.user}@… {command}` ended with {done.returncode}: {said[-1500:]}")
        return done.stdout.decode(errors="replace")

    def shell(self, lines: list[str], timeout: float = 120) -> str:
        """Type `lines` into a login shell on a real terminal, then leave; returns all that the terminal showed."""
        master, slave = pty.openpty()
        process = subprocess.Popen(
            self.line("-tt"), stdin=slave, stdout=slave, stderr=slave, env=self._environment(), start_new_session=True
        )
        os.close(slave)
        seen = bytearray()
        typed = "".join(f"{line}\n" for line in [*lines, "exit"]).encode()
        deadline = time.monotonic() + timeout
        prompted = False
        try:
            while time.monotonic() < deadline:
                if not select.select([master], [], [], 0.5)[0]:
                    continue
                try:
                    chunk = os.read(master, 65536)
                except OSError:  # EIO: the other side is gone
                    break
                if not chunk:
                    break
                seen += chunk
                if not prompted and seen.rstrip().endswith((b"#", b"$")):
                    prompted = True
                    os.write(master, typed)
            else:
                raise StepFailed(f"the shell of {self.user} did not end: {seen.decode(errors='replace')[-1500:]}")
            if process.wait(10) != 0:
                raise StepFailed(f"the shell of {self.user} failed: {seen.decode(errors='replace')[-1500:]}")
        finally:
            process.kill()
            process.wait()
            os.close(master)
        return seen.decode(errors="replace")


@dataclass
class Form:
    """One form of a page: where it goes, and the values that its fields have."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.text: list[str] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(values.get("action", ""), values.get("method", "get").lower()))
            self._open = True
        elif values.get("type") == "checkbox" and "checked" not in values:
            return  # a browser sends nothing for it
        elif self._open and tag in ("input", "textarea", "select") and "name" in values:
            self.forms[-1].fields[values["name"]] = values.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = False

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@dataclass(frozen=True)
class Page:
    url: str
    status: int
    text: str
    forms: tuple[Form, ...]


class Browser:
    """One person at the web page: follows redirects, keeps cookies, fills forms in."""

    def __init__(self, base: str) -> None:
        self.base = base
        self._session = requests.Session()
        self._session.trust_env = False

    def _page(self, answer: requests.Response) -> Page:
        parser = _Forms()
        parser.feed(answer.text)
        if answer.status_code >= 400:
            words = " ".join(" ".join(parser.text).split())
            raise StepFailed(f"the web page {answer.url} answered {answer.status_code}: {words[:500]}")
        return Page(answer.url, answer.status_code, " ".join(" ".join(parser.text).split()), tuple(parser.forms))

    def get(self, path: str) -> Page:
        """Open a page. StepFailed when the answer is an error."""
        return self._page(self._session.get(urljoin(self.base, path), timeout=30))

    def submit(self, page: Page, action: str, **fields: str) -> Page:
        """Press the button of the first form of `page` whose target contains `action`, with `fields` filled in."""
        for form in page.forms:
            if action in (form.action or page.url):
                unknown = set(fields) - set(form.fields)
                if unknown:
                    raise StepFailed(f"the form {form.action} has no field {', '.join(unknown)}")
                target = urljoin(page.url, form.action)
                return self._page(self._session.post(target, data={**form.fields, **fields}, timeout=30))
        raise StepFailed(f"{page.url} has no form for {action}: {page.text[:800]}")
