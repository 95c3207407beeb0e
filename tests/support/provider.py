"""A real OpenID provider, run with node on this host's loopback, and a person without a browser who signs in there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
import requests

from workspaces.assets import WEBADMIN

CLIENT, SECRET = "workspaces", "a secret of the tests"
SCRIPT = Path(__file__).with_name("provider.mjs")


@contextmanager
def provider(redirect: str) -> Iterator[str]:
    """Serve one for a client that wants people back at `redirect`; gives its issuer."""
    node, modules = shutil.which("node"), WEBADMIN / "assets/node_modules"
    if node is None or not (modules / "oidc-provider").is_dir():
        pytest.fail("oidc-provider is not installed: make test-install")
    process = subprocess.Popen(
        [node, str(SCRIPT), CLIENT, SECRET, redirect],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "MODULES": str(modules)},
    )
    assert process.stdin
    assert process.stdout
    try:
        issuer = process.stdout.readline().strip()
        assert issuer.startswith("http://localhost:"), issuer
        yield issuer
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


class Person:
    """Somebody's browser at the provider: signs in with some claims, and is sent back."""

    def __init__(self, **claims: object) -> None:
        self.claims = claims
        self.session = requests.Session()

    def follow(self, address: str, redirect: str, *, refuse: bool = False) -> str:
        """From the authorization address to the path, on this site, that the provider sends back to."""
        form = {"refuse": "yes"} if refuse else {"login": json.dumps(self.claims)}
        for _ in range(12):
            if address.startswith(redirect):
                parts = urlsplit(address)
                return f"{parts.path}?{parts.query}"
            response = self.session.get(address, allow_redirects=False, timeout=20)
            if response.status_code == 200:
                found = re.search(r'<form method="post"(?: action="([^"]*)")?', response.text)
                assert found, response.text
                action = urljoin(address, unescape(found[1] or ""))
                response = self.session.post(action, data=form, allow_redirects=False, timeout=20)
            assert response.status_code in (302, 303), response.text
            address = urljoin(address, response.headers["Location"])
        raise AssertionError("the provider sends in circles")
