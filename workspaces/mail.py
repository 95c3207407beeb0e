"""One mail to one person through the site's mail server: SMTP, encrypted unless it is a relay on this host.

Addresses and subjects become headers, so addresses are checked where they are set, and line breaks cannot get in:
`email` refuses them.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
import stat
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from pathlib import Path

from workspaces.errors import HostError
from workspaces.names import printable
from workspaces.settings import Mail

SECONDS = 15.0  # for each answer of the server
PASSWORD_FILE = "smtp-password"  # noqa: S105 -- a file's name


class RecipientRefused(Exception):
    """The server takes no mail for that address, now or ever; the argument is a sentence."""

    def __init__(self, sentence: str, permanent: bool) -> None:
        super().__init__(sentence)
        self.permanent = permanent


def compose(settings: Mail, to: str, subject: str, text: str, *, token: str) -> EmailMessage:
    """`token` makes the Message-ID, the same at each try. Raises ValueError when a header would hold a line break."""
    message = EmailMessage(policy=SMTP)
    message["From"] = settings.sender
    message["To"] = to
    message["Subject"] = subject
    message["Date"] = formatdate()
    message["Message-ID"] = f"<{token}@{settings.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    return message


def send(settings: Mail, keys: Path, to: str, subject: str, text: str, *, token: str) -> None:
    """Returns when the server has taken it. Raises RecipientRefused, HostError, OSError, smtplib.SMTPException."""
    message = compose(settings, to, subject, text, token=token)
    password = _password(keys) if settings.user else ""
    context = ssl.create_default_context()
    me = socket.gethostname()
    with (
        smtplib.SMTP_SSL(settings.host, settings.port, me, timeout=SECONDS, context=context)
        if settings.security == "tls"
        else smtplib.SMTP(settings.host, settings.port, me, timeout=SECONDS)
    ) as server:
        if settings.security == "starttls":
            server.starttls(context=context)
        if settings.user:
            server.login(settings.user, password)
        try:
            server.send_message(message, settings.sender, [to])
        except smtplib.SMTPRecipientsRefused as exc:
            code, said = exc.recipients[to]
            raise RecipientRefused(f"The mail server refuses {to}: {code} {_said(said)}", 500 <= code < 600) from exc
        except smtplib.SMTPResponseException as exc:
            raise HostError(f"The mail server answers {exc.smtp_code}: {_said(exc.smtp_error)}") from exc


def _password(keys: Path) -> str:
    path = keys / PASSWORD_FILE
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise HostError(f"Others may read {path}.", f"Run: chmod 600 {path}")
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise HostError(f"{path} cannot be read.", "Write the mail account's password into it, mode 600.") from exc


def _said(answer: bytes | str) -> str:
    return printable(answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer, 200)
