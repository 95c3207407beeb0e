"""The rules for passwords and public keys, and making an account with all that belongs to it.

Passwords are kept as argon2id hashes with argon2-cffi's defaults; checking one takes about 0.1 s and 64 MiB, the same
for an account that does not exist, so callers bound how many they check at once. A public key is taken as OpenSSH
writes it to a `.pub` file, checked field by field (RFC 4253 §6.6, RFC 5656 §3.1, RFC 8709 §4, OpenSSH's PROTOCOL.u2f).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import time
import unicodedata
from collections.abc import Callable
from enum import Enum

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from workspaces import keyoptions, recovery, totp
from workspaces.errors import InvalidInput
from workspaces.model import Role, User
from workspaces.names import check_name, printable
from workspaces.store import Store

PASSWORD_MIN = 8
PASSWORD_MAX = 1024  # characters
KEY_LINE_MAX = 16384  # characters: RSA with 16384 bits takes about 2750
COMMENT_MAX = 200
INVITED_HOURS = 7 * 24.0
RSA_BITS_MIN = 2048
RSA_BITS_MAX = 16384

_NO_SECRET = "A" * 32  # worked with where there is none
_POINT_BYTES = {"nistp256": 65, "nistp384": 97, "nistp521": 133}  # uncompressed: 4, x, y
_HOW = "Paste the one line of the .pub file, e.g. of ~/.ssh/id_ed25519.pub; ssh-keygen -t ed25519 makes a new pair."


# passwords


def check_password_rule(password: str) -> None:
    """Raise InvalidInput when `password` may not be one: 8 to 1024 characters, none of them a control character."""
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        raise InvalidInput(f"A password has {PASSWORD_MIN} to {PASSWORD_MAX} characters.")
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in password):
        raise InvalidInput("The password has control characters or bytes that are not UTF-8.")


def hash_password(password: str) -> str:
    """The hash to store for a new password. Raises InvalidInput when it breaks the rule."""
    check_password_rule(password)
    return PasswordHasher().hash(_encoded(password))


def check_password(stored: str | None, password: str) -> bool:
    """Whether `password` is the one that was hashed. Never raises, whatever is typed.

    `stored` is None for an account without password or none at all; the work is the same then.
    """
    typed = _encoded(password[: PASSWORD_MAX + 1])
    hasher = PasswordHasher()
    if stored is not None:
        try:
            return hasher.verify(stored, typed)
        except InvalidHashError:
            pass  # damaged: as if there were none
        except Argon2Error:
            return False
    hasher.hash(typed)
    return False


class Verdict(Enum):
    RIGHT = "right"
    WRONG = "wrong"
    WRONG_CODE = "wrong code"  # after the right password: never told, but counted


def check_login(store: Store, name: str, password: str, code: str | None, now: float | None = None) -> Verdict:
    """Whether password and one-time code let that account in; `code` is None where none was asked for.

    A code that let somebody in is used up; a recovery code is as good as a one-time code. Takes as long without such
    an account, and whichever of the two is wrong.
    """
    user = store.find_user(name)
    hashed, secret = store.password_hash(name), store.totp_secret(name)
    if user is None or user.disabled:
        hashed = secret = None
    right = check_password(hashed, password)
    step = totp.matching_step(secret or _NO_SECRET, code or "", time.time() if now is None else now)
    if not right:
        return Verdict.WRONG
    if secret is None:
        return Verdict.RIGHT
    if code is None:
        return Verdict.WRONG
    if step is not None and store.accept_totp_step(name, secret, step):
        return Verdict.RIGHT
    return Verdict.RIGHT if use_recovery_code(store, name, code) else Verdict.WRONG_CODE


def check_code(store: Store, name: str, code: str, now: float | None = None) -> bool:
    """Whether this is a one-time code or recovery code of `name`; it is used up then. NotFound."""
    secret = store.totp_secret(name)
    step = totp.matching_step(secret, code, time.time() if now is None else now) if secret else None
    if secret and step is not None and store.accept_totp_step(name, secret, step):
        return True
    return use_recovery_code(store, name, code)


def use_recovery_code(store: Store, name: str, code: str) -> bool:
    """Whether this is a recovery code of `name`, which is used up then. NotFound."""
    found = recovery.normal(code)
    return found is not None and store.use_recovery_code(name, recovery.digest(found))


def new_recovery_codes(store: Store, name: str, *, actor: str) -> list[str]:
    """Codes to keep on paper, each good for one login in place of a one-time code; earlier ones are void. NotFound."""
    codes = recovery.new_codes()
    digests = [recovery.digest(found) for code in codes if (found := recovery.normal(code))]
    store.set_recovery_codes(name, digests, actor=actor)
    return codes


def invite(store: Store, name: str, *, actor: str, hours: float = INVITED_HOURS) -> str:
    """A token: whoever has it sets the password of `name`, once. An earlier one is void. NotFound, Conflict."""
    token = recovery.new_token()
    store.invite(name, recovery.digest(token), time.time() + hours * 3600, actor=actor)
    return token


def accept_invitation(store: Store, token: str, password: str) -> User:
    """Set the password of whom the invitation is for, and use it up. InvalidInput for the password, NotFound."""
    return store.accept_invitation(recovery.digest(token), hash_password(password))


def accept_with_identity(store: Store, token: str, issuer: str, subject: str, shown: str) -> User:
    """Link who is `subject` at `issuer` to whom the invitation is for, and use it up. NotFound, Conflict."""
    return store.accept_invitation_by(recovery.digest(token), issuer, subject, shown)


def claimed_user(store: Store, claim: str, value: str) -> User | None:
    """Whose account a provider's claim names: by the address of news for `email`, else by name; None when unclear."""
    if claim != "email":
        return store.find_user(value)
    found = store.users_with_email(value)
    return found[0] if len(found) == 1 else None


def begin_totp(store: Store, name: str, *, actor: str) -> tuple[str, str]:
    """Ask `name` for one-time codes from now on: their new secret in base32, and the URI for an app. NotFound."""
    secret = totp.new_secret()
    store.set_totp_secret(name, secret, actor=actor)
    return secret, totp.uri(secret, name)


def _encoded(password: str) -> bytes:
    """One form for one text: keyboards differ in how they compose an ä. What is not Unicode never matches."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


# public keys


def parse_public_key(text: str) -> tuple[str, str]:
    """The fingerprint (`SHA256:…`) and the line to store (`type base64 comment`) of a public key.

    Takes ed25519, ECDSA, RSA from 2048 bits, and the two kinds on security keys. Raises InvalidInput for all else,
    with what was pasted instead, where that can be told.
    """
    line = _only_line(text)
    fields = line.split()
    kind = fields[0]
    if kind not in _KINDS:
        raise _not_a_kind(line, kind)
    if len(fields) < 2:
        raise InvalidInput("The key is cut off after its type.", _HOW)
    blob = _decoded(fields[1])
    comment = " ".join(fields[2:])
    if printable(comment, KEY_LINE_MAX) != comment:
        raise InvalidInput("The key's comment has control characters.")
    fields_of_blob = _Fields(blob)
    if fields_of_blob.text() != kind:
        raise InvalidInput(f"The key is not of the type {kind} that its line begins with.", _HOW)
    _KINDS[kind](fields_of_blob)
    fields_of_blob.end()
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return f"SHA256:{digest}", f"{kind} {base64.b64encode(blob).decode()} {comment[:COMMENT_MAX]}".rstrip()


def parse_key_line(text: str) -> tuple[str, str, str]:
    """The same for a line of authorized_keys(5): fingerprint, line to store, and the options in front of the key.

    Raises InvalidInput also for options that are not known or cannot be honoured.
    """
    line = _only_line(text)
    words = line.split()
    if words[0] in _KINDS or not any(word in _KINDS for word in words):
        return *parse_public_key(text), ""
    options, key = keyoptions.split(line)
    found = keyoptions.parse(options)
    fingerprint, stored = parse_public_key(key)
    if not stored.startswith("sk-") and (found.verify_required or not found.touch_required):
        raise InvalidInput("no-touch-required and verify-required are for keys on a security key, whose type is sk-….")
    return fingerprint, stored, options


def _only_line(text: str) -> str:
    if "PRIVATE KEY" in text or "PuTTY-User-Key-File" in text:
        raise InvalidInput(
            "That is a private key. It must never leave your computer.",
            "Give the file whose name ends in .pub. If you sent the private one to anybody, make a new pair.",
        )
    if "BEGIN SSH2 PUBLIC KEY" in text:
        raise InvalidInput(
            "That key is not in OpenSSH's form.",
            "Convert it with: ssh-keygen -i -f FILE   (or copy PuTTYgen's upper box)",
        )
    lines = [line.strip() for line in text.removeprefix("\ufeff").splitlines() if line.strip()]
    if not lines:
        raise InvalidInput("There is no key.", _HOW)
    if len(lines) > 1:
        raise InvalidInput("A key is one line; this has several.", "Add several keys one by one.")
    if len(lines[0]) > KEY_LINE_MAX:
        raise InvalidInput("The line is too long to be a key.", _HOW)
    return lines[0]


def _not_a_kind(line: str, kind: str) -> InvalidInput:
    if re.fullmatch(r"[a-z0-9@.-]*-cert-v01@openssh\.com", kind):
        return InvalidInput("That is a certificate; give the plain public key.", _HOW)
    if kind == "ssh-dss":
        return InvalidInput("DSA keys are not safe any more.", "Make a new one: ssh-keygen -t ed25519")
    if any(f" {known} " in f" {line} " for known in _KINDS):
        return InvalidInput(
            "Options in front of the key are not taken here.", "Leave out all that stands before the key's type."
        )
    return InvalidInput(f"{printable(kind, 40)!r} is no type of key that is taken here.", _HOW)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as exc:
        raise InvalidInput("The key is damaged or cut off.", _HOW) from exc


class _Fields:
    """Reads the fields of a key's bytes in turn, as RFC 4251 §5 writes them; InvalidInput where there are too few."""

    def __init__(self, blob: bytes) -> None:
        self._rest = blob

    def string(self) -> bytes:
        size = int.from_bytes(self._rest[:4], "big")
        field = self._rest[4 : 4 + size]
        if len(self._rest) < 4 or len(field) < size:
            raise InvalidInput("The key is damaged or cut off.", _HOW)
        self._rest = self._rest[4 + size :]
        return field

    def text(self) -> str:
        return self.string().decode("ascii", "replace")

    def positive(self) -> int:
        """An mpint above 0 in its one shortest form: another form would give one key two fingerprints."""
        field = self.string()
        value = int.from_bytes(field, "big")
        if not value or field[0] & 0x80 or len(field) != value.bit_length() // 8 + 1:
            raise InvalidInput("The key has a number in a wrong form.", _HOW)
        return value

    def end(self) -> None:
        if self._rest:
            raise InvalidInput("The key has bytes after its end.", _HOW)


def _ed25519(fields: _Fields) -> None:
    if len(fields.string()) != 32:
        raise InvalidInput("An ed25519 key has 32 bytes.", _HOW)


def _ecdsa(curve: str) -> Callable[[_Fields], None]:
    def check(fields: _Fields) -> None:
        named, point = fields.text(), fields.string()
        if named != curve or len(point) != _POINT_BYTES[curve] or point[0] != 4:
            raise InvalidInput(f"The key is no point of the curve {curve}.", _HOW)

    return check


def _rsa(fields: _Fields) -> None:
    exponent, modulus = fields.positive(), fields.positive()
    bits = modulus.bit_length()
    if not RSA_BITS_MIN <= bits <= RSA_BITS_MAX:
        raise InvalidInput(
            f"The RSA key has {bits} bits; {RSA_BITS_MIN} to {RSA_BITS_MAX} are taken.",
            "Make a new one: ssh-keygen -t ed25519",
        )
    if exponent < 3 or exponent % 2 == 0 or exponent.bit_length() > 64 or modulus % 2 == 0:
        raise InvalidInput("The RSA key's numbers cannot be a key's.", _HOW)


def _on_security_key(check: Callable[[_Fields], None]) -> Callable[[_Fields], None]:
    def check_both(fields: _Fields) -> None:
        check(fields)
        fields.string()  # the application, "ssh:" as a rule

    return check_both


_KINDS: dict[str, Callable[[_Fields], None]] = {
    "ssh-ed25519": _ed25519,
    **{f"ecdsa-sha2-{curve}": _ecdsa(curve) for curve in _POINT_BYTES},
    "ssh-rsa": _rsa,
    "sk-ssh-ed25519@openssh.com": _on_security_key(_ed25519),
    "sk-ecdsa-sha2-nistp256@openssh.com": _on_security_key(_ecdsa("nistp256")),
}


# accounts


def create_user(
    store: Store,
    name: str,
    *,
    actor: str,
    role: Role = Role.PARTICIPANT,
    challenge: str | None = None,
    password: str | None = None,
    key: str | None = None,
) -> User:
    """Make an account with its password, public key (a line, options in front) and, with `challenge`, a workspace there
    of the same name.

    All of it or nothing. Raises InvalidInput, NotFound for the challenge, Conflict for what exists already.
    """
    check_name(name, "user")
    parsed = parse_key_line(key) if key is not None else None
    hashed = hash_password(password) if password is not None else None  # slow: before the transaction
    with store.transaction():
        user = store.add_user(name, role, hashed, actor=actor)
        if parsed:
            store.add_key(name, *parsed, actor=actor)
        if challenge is not None:
            store.add_workspace(challenge, name, [name], actor=actor)
    return user


def create_participant(
    store: Store, name: str, challenge: str, *, actor: str, password: str | None = None, key: str | None = None
) -> User:
    """`create_user` for a participant with a workspace of their own in `challenge`."""
    return create_user(store, name, actor=actor, challenge=challenge, password=password, key=key)
