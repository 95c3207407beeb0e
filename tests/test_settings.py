"""workspaces.toml: defaults, checks, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from workspaces import settings
from workspaces.errors import SettingsError
from workspaces.model import JobKind


def test_defaults(tmp_path: Path) -> None:
    found = settings.load(tmp_path)
    assert found.gateway_listen == ("0.0.0.0", 2222)
    assert found.web_listen == ("127.0.0.1", 8080)
    assert found.archive_dir == tmp_path / "archive"
    assert found.engine_host == ""
    assert found.gateway_processes == 0
    assert found.mail is None
    assert found.worker_jobs == 4
    assert found.worker_at_once[JobKind.COMMIT] == 2


def test_values(tmp_path: Path) -> None:
    (tmp_path / "workspaces.toml").write_text(
        '[gateway]\nlisten = "[::1]:22"\nhost = "gate.example"\nprocesses = 3\n[web]\nurl = "https://x.example/"\n'
        '[archive]\nurl = "file:///big/archive"\n[worker]\njobs = 8\narchive = 3\n'
        '[mail]\nserver = "mx.example:587"\nfrom = "gate@x.example"\nuser = "gate"\n'
    )
    found = settings.load(tmp_path)
    assert found.gateway_listen == ("::1", 22)
    assert found.gateway_processes == 3
    assert found.web_url == "https://x.example"
    assert (found.worker_jobs, found.worker_at_once[JobKind.ARCHIVE]) == (8, 3)
    assert found.mail == settings.Mail("mx.example", 587, "starttls", "gate", "gate@x.example")
    assert found.archive_dir == Path("/big/archive")


def test_the_address_is_as_browsers_write_it(tmp_path: Path) -> None:
    for text, expected in (
        ("HTTPS://Data.Example:443/challenge/", "https://data.example/challenge"),
        ("http://[2001:DB8::1]:8080", "http://[2001:db8::1]:8080"),
    ):
        (tmp_path / "workspaces.toml").write_text(f'[web]\nurl = "{text}"\n')
        assert settings.load(tmp_path).web_url == expected


def test_an_archive_on_s3(tmp_path: Path) -> None:
    path = tmp_path / "workspaces.toml"
    path.write_text('[archive]\nurl = "s3://bucket"\nrecipients = ["age1", "age2"]\n')
    found = settings.load(tmp_path)
    assert found.archive_bucket == settings.Bucket("bucket", "", "", "", False)
    assert found.archive_dir == tmp_path / "archive"
    assert found.archive_recipients == ("age1", "age2")
    path.write_text(
        '[archive]\nurl = "s3://my.bucket/some/prefix/"\nendpoint = "https://s3.example"\nregion = "eu"\n'
        'addressing = "path"\n'
    )
    expected = settings.Bucket("my.bucket", "some/prefix", "https://s3.example", "eu", True)
    assert settings.load(tmp_path).archive_bucket == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "not valid TOML"),
        ('listen = "a"', "must be a table"),
        ('[gateway]\nport = "1"', r"\[gateway\] port is not a setting"),
        ("[gateway]\nlisten = 22", "must be text in quotes"),
        ('[gateway]\nprocesses = "2"', "must be 0 to 256, not '2'"),
        ("[gateway]\nprocesses = -1", "must be 0 to 256"),
        ("[gateway]\nprocesses = true", "must be 0 to 256"),
        ('[gateway]\nlisten = "22"', "ADDRESS:PORT"),
        ('[web]\nlisten = "a:99999"', "ADDRESS:PORT"),
        ('[web]\nurl = "ftp://x"', "https://"),
        ('[web]\nurl = "https:///x"', "a host's name"),
        ('[web]\nurl = "https://x:99999"', "a host's name"),
        ('[archive]\nurl = "/x"', "file:///"),
        ('[archive]\nurl = "s3://"', "s3://bucket/prefix"),
        ('[archive]\nurl = "s3://Bucket"', "s3://bucket/prefix"),
        ('[archive]\nurl = "s3://bucket/a?b"', "s3://bucket/prefix"),
        ('[archive]\nurl = "s3://bucket"\nendpoint = "x"', "endpoint must start with"),
        ('[archive]\nurl = "s3://bucket"\naddressing = "dns"', "must be auto or path"),
        ('[archive]\nrecipients = "age1"', "must be a list"),
        ("[archive]\nrecipients = [1]", "must be a list"),
        ('[archive]\nurl = "file://host/x"', "file:///"),
        ("[worker]\njobs = -1", "must be 0 to 256"),
        ("[worker]\nbrew = 1", r"\[worker\] brew is not a setting"),
        ('[mail]\nserver = "mx"', "ADDRESS:PORT"),
        ('[mail]\nserver = "mx:25"', "from: '' is not an e-mail address"),
        ('[mail]\nserver = "mx:25"\nfrom = "a@b\\nBcc: c@d"', "is not an e-mail address"),
        ('[mail]\nserver = "mx:25"\nfrom = "a@b"\nsecurity = "ssl"', "must be starttls, tls, none"),
        ('[mail]\nserver = "mx:25"\nfrom = "a@b"\nsecurity = "none"\nuser = "a"', "needs"),
        ("\xff", "not valid TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "workspaces.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match=said) as caught:
        settings.load(tmp_path)
    assert caught.value.exit_status == 2


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WORKSPACES_HOME", raising=False)
    assert settings.home_path() == Path("/var/lib/workspaces")
    monkeypatch.setenv("WORKSPACES_HOME", str(tmp_path))
    assert settings.home_path() == tmp_path
    assert settings.home_path("/x") == Path("/x")


def test_a_home_with_odd_characters_keeps_its_archive(tmp_path: Path) -> None:
    home = tmp_path / "sp ace %20 #?"
    home.mkdir()
    assert settings.load(home).archive_dir == home / "archive"
