"""The layout in an S3 bucket, below a prefix. The only module that imports boto3.

    local file ─► one PUT, or parts of 8 MiB, each with its SHA-256 ─► blobs/sha256/<hex>, If-None-Match
    index.json ─► PUT, If-Match: of two hosts that write at once one gets Changed, reads it again and adds its entry

boto3 repeats what fails for the moment (5xx, throttling, time-outs), later and later; what still fails is
ArchiveUnavailable, and the job is tried again. A download that breaks off goes on where it was. A blob that is there
already and old is written anew, so that nobody's `gc` takes it for garbage meanwhile (`grace`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import time
import tomllib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ResponseStreamingError,
)
from botocore.exceptions import (
    ConnectionError as NotConnected,
)

from workspaces.archive.storage import BLOBS, CHUNK, MAX_DOCUMENT, Changed, Stored
from workspaces.errors import ArchiveError, ArchiveUnavailable, Corrupt, SettingsError
from workspaces.names import printable
from workspaces.settings import Bucket

PART = 8 << 20
MAX_PARTS = 9000  # S3 takes 10,000
PARTS_AT_ONCE = 3
ATTEMPTS = 5  # of one request
CONNECT_SECONDS = 10
READ_SECONDS = 60
PAUSE_SECONDS = 0.5  # before a broken download goes on; doubled each time
GRACE_SECONDS = 86400.0
CREDENTIALS_FILE = "s3.toml"

_MISSING = ("NoSuchKey", "404", "NotFound")
_LATER = ("SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "TooManyRequestsException",
          "ConditionalRequestConflict", "OperationAborted", "NoSuchUpload")  # fmt: skip
_DENIED = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "403")


class S3:
    """The layout in `bucket`. `local` is a directory of this host; `keys` may hold s3.toml with credentials.

    Raises SettingsError for a credentials file that is wrong or open to others.
    """

    grace = GRACE_SECONDS
    shared = True

    def __init__(self, bucket: Bucket, local: Path, keys: Path) -> None:
        self.local = local
        self.where = f"s3://{bucket.name}/{bucket.prefix}".rstrip("/")
        self._bucket = bucket.name
        self._prefix = f"{bucket.prefix}/" if bucket.prefix else ""
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if bucket.path_style else "auto"},
        )
        with self._errors():
            self._client: Any = boto3.session.Session().client(
                "s3",
                endpoint_url=bucket.endpoint or None,
                region_name=bucket.region or None,
                config=config,
                **_credentials(keys / CREDENTIALS_FILE),
            )

    def prepare(self) -> None:
        """The bucket is not made here: who owns it, and who may read it, is for its administrators."""
        for directory in (self.local, self.local / ".tmp"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def size(self, name: str) -> int | None:
        found = self._head(name)
        return None if found is None else int(found["ContentLength"])

    def since(self, name: str) -> float | None:
        found = self._head(name)
        return None if found is None else float(found["LastModified"].timestamp())

    def read(self, name: str, tail: int | None = None) -> Iterator[bytes]:
        position, failures = 0, 0
        more: dict[str, str] = {} if tail is None else {"Range": f"bytes=-{tail}"}
        while True:
            try:
                with self._errors():
                    answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name, **more)
                with closing(answer["Body"]) as body:
                    for chunk in body.iter_chunks(CHUNK):
                        position += len(chunk)
                        yield chunk
                return
            except _Missing:
                raise FileNotFoundError(name) from None
            except (HTTPClientError, IncompleteReadError, ResponseStreamingError) as exc:
                failures += 1
                if failures >= ATTEMPTS or tail is not None:
                    raise _unavailable(self.where, "breaks off while it is read") from exc
                time.sleep(PAUSE_SECONDS * 2 ** (failures - 1))
                more = {"Range": f"bytes={position}-", "IfMatch": answer["ETag"]} if position else {}

    def keep(self, file: Path, name: str) -> None:
        size = file.stat().st_size
        try:
            with self._errors():
                self._upload(file, name, size, {"IfNoneMatch": "*"})
        except _Refused:
            found = self._head(name)
            fresh = found is not None and time.time() - found["LastModified"].timestamp() < GRACE_SECONDS / 2
            if found is None or found["ContentLength"] != size or not fresh:
                with self._errors():
                    self._upload(file, name, size, {})
        file.unlink()

    def document(self, name: str) -> tuple[bytes, str] | None:
        try:
            with self._errors():
                answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
                if answer["ContentLength"] > MAX_DOCUMENT:
                    raise Corrupt(f"{self.where}/{name} is too large.")
                return answer["Body"].read(), str(answer["ETag"])
        except _Missing:
            return None

    def is_version(self, name: str, version: str | None) -> bool:
        found = self._head(name)
        return (None if found is None else str(found["ETag"])) == version

    def replace(self, name: str, data: bytes, version: str | None) -> None:
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        checksum = _base64(hashlib.sha256(data).digest())
        try:
            with self._errors():
                self._client.put_object(
                    Bucket=self._bucket, Key=self._prefix + name, Body=data, ChecksumSHA256=checksum, **condition
                )
        except (_Refused, _Missing) as exc:
            raise Changed from exc

    def blobs(self) -> Iterator[Stored]:
        prefix = self._prefix + BLOBS
        with self._errors():
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                for found in page.get("Contents", ()):
                    yield Stored(found["Key"].removeprefix(prefix), found["Size"], found["LastModified"].timestamp())

    def delete(self, name: str) -> None:
        with self._errors():
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    def unfinished(self) -> list[str]:
        found = []
        with self._errors():
            pages = self._client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + BLOBS):
                for upload in page.get("Uploads", ()):
                    if time.time() - upload["Initiated"].timestamp() > GRACE_SECONDS:
                        found.append(json.dumps([upload["Key"], upload["UploadId"]]))
        return found

    def abandon(self, name: str) -> None:
        key, upload = json.loads(name)
        with self._errors():
            self._abort(key, upload)

    def clean(self) -> None:
        for path in (self.local / ".tmp").glob("*"):
            if path.suffix == ".upload":
                with suppress(ValueError, TypeError):  # torn when the power went; `unfinished` finds that upload
                    self.abandon(path.read_text())
            path.unlink(missing_ok=True)

    # how it is done

    def _head(self, name: str) -> Mapping[str, Any] | None:
        try:
            with self._errors():
                found: Mapping[str, Any] = self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)
                return found
        except _Missing:
            return None

    def _upload(self, file: Path, name: str, size: int, condition: Mapping[str, str]) -> None:
        key = self._prefix + name
        if size <= PART:
            checksum = _base64(bytes.fromhex(name.removeprefix(BLOBS)))
            self._client.put_object(
                Bucket=self._bucket, Key=key, Body=file.read_bytes(), ChecksumSHA256=checksum, **condition
            )
            return
        upload = self._client.create_multipart_upload(Bucket=self._bucket, Key=key, ChecksumAlgorithm="SHA256")
        note = file.with_suffix(".upload")
        note.write_text(json.dumps([key, upload["UploadId"]]))
        try:
            parts = self._parts(file, key, upload["UploadId"], size)
            self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=key, UploadId=upload["UploadId"], MultipartUpload={"Parts": parts}, **condition
            )
        except Exception:
            self._abort(key, upload["UploadId"])
            note.unlink()
            raise
        note.unlink()

    def _parts(self, file: Path, key: str, upload: str, size: int) -> list[dict[str, Any]]:
        """Upload the parts, a few at once; no more than those are in memory."""
        length = max(PART, -(-size // MAX_PARTS))

        def send(number: int) -> dict[str, Any]:
            with file.open("rb") as source:
                source.seek((number - 1) * length)
                data = source.read(length)
            checksum = _base64(hashlib.sha256(data).digest())
            answer = self._client.upload_part(
                Bucket=self._bucket, Key=key, UploadId=upload, PartNumber=number, Body=data, ChecksumSHA256=checksum
            )
            return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum}

        with ThreadPoolExecutor(PARTS_AT_ONCE, "upload") as pool:
            return list(pool.map(send, range(1, -(-size // length) + 1)))

    def _abort(self, key: str, upload: str) -> None:
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)
        except ClientError as exc:
            if exc.response["Error"].get("Code") != "NoSuchUpload":
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """boto3's exceptions as ours."""
        try:
            yield
        except ClientError as exc:
            raise self._refusal(exc) from exc
        except (NoCredentialsError, PartialCredentialsError) as exc:
            raise ArchiveError(
                f"There are no credentials for {self.where}.",
                f"Write access_key and secret_key into keys/{CREDENTIALS_FILE} (mode 0600), or give them as boto3 "
                "finds them.",
            ) from exc
        except (HTTPClientError, NotConnected) as exc:
            raise _unavailable(self.where, "does not answer") from exc
        except (IncompleteReadError, ResponseStreamingError) as exc:
            raise _unavailable(self.where, "breaks off while it is read") from exc
        except (BotoCoreError, ValueError) as exc:
            raise ArchiveError(f"{self.where} cannot be used: {printable(str(exc), 200)}.") from exc

    def _refusal(self, exc: ClientError) -> Exception:
        code = printable(str(exc.response.get("Error", {}).get("Code", "")), 60)
        status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code == "NoSuchBucket":
            return ArchiveError(f"There is no bucket {self._bucket}.", "Make it, or correct [archive] url.")
        if code in _MISSING:
            return _Missing()
        if status == 412:
            return _Refused()
        if status >= 500 or status == 429 or code in _LATER:
            return _unavailable(self.where, f"cannot do that now ({code or status})")
        if code in _DENIED:
            return ArchiveError(
                f"{self.where} refuses this host ({code}).",
                f"Are the credentials in keys/{CREDENTIALS_FILE} right, and may they read, write, list and delete?",
            )
        return ArchiveError(f"{self.where} refuses that ({code or status}).")


class _Missing(ArchiveError):
    def __init__(self) -> None:
        super().__init__("The bucket has no such object.")


class _Refused(ArchiveError):
    def __init__(self) -> None:
        super().__init__("The object is there already, or is another one by now.")


def _unavailable(where: str, what: str) -> ArchiveUnavailable:
    return ArchiveUnavailable(
        f"{where} {what}.", "Jobs try it again by themselves; if that lasts, look at the S3 service."
    )


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _credentials(path: Path) -> dict[str, str]:
    """boto3's arguments from the file; none when there is no file, and boto3 looks where it always does."""
    try:
        with path.open("rb") as file:
            mode, found = os.fstat(file.fileno()).st_mode, tomllib.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path} cannot be read: {exc}.") from exc
    if stat.S_IMODE(mode) & 0o077:
        raise SettingsError(f"{path} can be read by others.", f"chmod 600 {path}")
    names = {
        "access_key": "aws_access_key_id",
        "secret_key": "aws_secret_access_key",
        "session_token": "aws_session_token",
    }
    if not {"access_key", "secret_key"} <= found.keys() <= names.keys() or not all(
        isinstance(value, str) for value in found.values()
    ):
        raise SettingsError(f"{path} must have access_key and secret_key, and may have session_token, all in quotes.")
    return {names[name]: value for name, value in found.items()}
