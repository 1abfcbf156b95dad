"""Blobs as objects of S3, Google Cloud Storage or Azure, over obstore.

S3 is tested against a real server (SeaweedFS), its faults through a proxy. Of Google Cloud Storage and Azure only what
works without them is: that URL and options are understood.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore, from_url

from pacs.blobs.base import IDENTITY_KEY, BlobHead, BlobState, checked, identity_file, read_identity
from pacs.blobs.outage import Outage
from pacs.dicom.model import BlobRef
from pacs.errors import Corrupt, NotFound, OutOfResources, PacsError

log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20
# Up to this size an object goes up in one request, which the store itself makes conditional.
_WHOLE_BYTES = 8 << 20
_PART_BYTES = 8 << 20
_MAX_PARTS = 9000  # S3 takes 10,000
_PARTS_AT_ONCE = 3
_RANGE_BYTES = 4 << 20
_READERS = 16
_PAUSES_S = (0.1, 2.0)
# Options that belong to the HTTP client, not to the kind of store.
_CLIENT_OPTIONS = frozenset(
    {
        *("allow_http", "allow_invalid_certificates", "connect_timeout", "http1_only", "http2_only"),
        *("pool_idle_timeout", "proxy_ca_certificate", "proxy_excludes", "proxy_url", "root_certificate", "timeout"),
        *("read_timeout", "user_agent"),
    }
)
_BOOLEANS = {"true": True, "false": False}
# Trying again does not help.
_FINAL = (AlreadyExistsError, NotFoundError, PermissionDeniedError, UnauthenticatedError)


class ObjectStoreBlobs:
    """Objects below ``url`` (s3://bucket/prefix, gs://…, az://…); what is being received lies in ``incoming``, locally.

    options: obstore's names, such as endpoint, region, access_key_id, secret_access_key, allow_http; what is left out
    comes from the environment (AWS_*, GOOGLE_*, AZURE_*). timeout_s: how long one request, its repetitions with growing
    pauses included, may take about; a file of more than 8 MiB is several requests. Raises OutOfResources when the
    bucket cannot be listed with these.

    A multipart upload that fails is aborted. One that a killed process began leaves parts in the bucket, unseen, for a
    lifecycle rule of the bucket to expire (AbortIncompleteMultipartUpload).
    """

    is_local = False

    def __init__(
        self, url: str, incoming: Path, options: Mapping[str, str] | None = None, *, timeout_s: float = 20
    ) -> None:
        self._incoming = incoming
        self._retry_s = timeout_s / 2
        self._outage = Outage("the object store does not answer")
        try:
            incoming.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutOfResources(f"the data folder cannot be written: {error.strerror}") from error
        with self._asking("the object store cannot be used"):
            self._store = open_store(url, options or {}, timeout_s)
            # For tidying up after a failure: a server that is away is not waited for once more.
            self._hasty = open_store(url, {**(options or {}), "timeout": _duration(min(3.0, timeout_s))}, 0)
            next(iter(obstore.list(self._store, chunk_size=1)), None)
        self._readers = ThreadPoolExecutor(_READERS, "read-ahead")

    def incoming(self) -> Path:
        return self._incoming

    def adopt(self, path: Path, key: str, digest: str = "") -> None:
        key = checked(key)
        # The writer tells an object of this very call, whose answer was lost and which was sent again, from any other.
        noted = {"writer": secrets.token_hex(12), **({"digest": digest} if digest else {})}
        try:
            size_bytes = path.stat().st_size
            if size_bytes <= _WHOLE_BYTES:
                self._create(key, path.read_bytes(), noted)
            else:
                self._upload(key, path, size_bytes, noted)
            path.unlink(missing_ok=True)
        except PacsError:
            raise
        except OSError as error:
            raise OutOfResources(f"the file could not be stored: {error.strerror or type(error).__name__}") from error

    def place(self, path: Path, key: str, digest: str = "") -> None:
        self.adopt(path, key, digest)

    def settle(self, keys: Sequence[str]) -> None:
        """What the store has said yes to is durable."""

    def _create(self, key: str, content: bytes, noted: dict[str, str]) -> None:
        """One object, in one request. Raises Corrupt when the key has another one."""
        with self._asking("the object could not be stored"):
            deadline = time.monotonic() + self._retry_s
            for attempt in range(1000):
                try:
                    obstore.put(self._store, key, content, mode="create", use_multipart=False, attributes=noted)
                    return
                except AlreadyExistsError:
                    found = obstore.get(self._store, key, options={"head": True})
                    if found.attributes.get("writer") != noted["writer"]:
                        raise Corrupt("a stored object would have been overwritten") from None
                    return
                except BaseError as error:
                    # obstore does not repeat what may have been done and would then fail: here that is told apart.
                    pause_s = min(_PAUSES_S[0] * 2**attempt, _PAUSES_S[1])
                    if isinstance(error, _FINAL) or time.monotonic() + pause_s > deadline:
                        raise
                    time.sleep(pause_s)

    def _upload(self, key: str, path: Path, size_bytes: int, noted: dict[str, str]) -> None:
        """In parts. These cannot be conditional, so that an empty object takes the key first: a whole one replaces it.

        After a crash in between, the empty object is left, without a row: ``pacs verify`` finds it.
        """
        self._create(key, b"", noted)
        try:
            with self._asking("the object could not be stored"), path.open("rb") as file:
                obstore.put(
                    self._store,
                    key,
                    file,
                    use_multipart=True,
                    chunk_size=max(_PART_BYTES, -(-size_bytes // _MAX_PARTS)),
                    max_concurrency=_PARTS_AT_ONCE,
                    attributes=noted,
                )
                if obstore.head(self._store, key)["size"] != size_bytes:
                    raise OutOfResources("the object store did not take all parts")
        except BaseException:
            with suppress(BaseError, OSError):
                obstore.delete(self._hasty, key)
            raise

    def read(self, ref: BlobRef, offset: int = 0, length: int | None = None) -> bytes:
        wanted = ref.size_bytes - offset if length is None else length
        return self._range(ref.key, offset, wanted)

    def stream(
        self, ref: BlobRef, offset: int = 0, length: int | None = None, *, at_once: bool = False
    ) -> Iterator[bytes]:
        wanted = ref.size_bytes - offset if length is None else length
        return self._pieces(ref.key, offset, wanted, self._begin(ref.key, offset, wanted) if at_once else None)

    def _pieces(self, key: str, offset: int, wanted: int, following: Future[bytes] | None) -> Iterator[bytes]:
        following = following or self._begin(key, offset, wanted)
        while True:
            data = following.result()
            # A range that came short was the object's last.
            is_last = len(data) < min(wanted, _RANGE_BYTES)
            offset += len(data)
            wanted -= len(data)
            is_last = is_last or wanted <= 0
            if not is_last:
                following = self._begin(key, offset, wanted)
            for start in range(0, len(data), PIECE_BYTES):
                yield data[start : start + PIECE_BYTES]
            if is_last:
                return

    def _begin(self, key: str, offset: int, wanted: int) -> Future[bytes]:
        return self._readers.submit(self._range, key, offset, min(wanted, _RANGE_BYTES))

    @contextmanager
    def local(self, ref: BlobRef) -> Iterator[Path]:
        copy = self._incoming / f"{secrets.token_hex(12)}.copy"
        try:
            try:
                with copy.open("wb") as file:
                    for piece in self.stream(ref):
                        file.write(piece)
            except OSError as error:
                raise OutOfResources(f"the data folder cannot be written: {error.strerror}") from error
            yield copy
        finally:
            copy.unlink(missing_ok=True)

    def head(self, ref: BlobRef, length: int) -> BlobHead:
        with self._asking("the object could not be read"):
            options: Any = {"range": (0, max(1, min(length, ref.size_bytes)))} if ref.size_bytes else {}
            found = obstore.get(self._store, checked(ref.key), options=options)
            digest = found.attributes.get("digest", "")
            return BlobHead(bytes(found.bytes())[:length], str(digest))

    def state(self, key: str) -> BlobState:
        with self._asking("the object could not be looked at"):
            return _state(obstore.head(self._store, checked(key)))

    def delete(self, ref: BlobRef) -> None:
        with suppress(NotFound), self._asking("the object could not be removed"):
            obstore.delete(self._store, checked(ref.key))

    def entries(self, folder: str = "") -> Iterator[tuple[str, BlobState]]:
        pages = obstore.list(self._store, prefix=checked(folder) if folder else None)
        while True:
            # Page by page: what the caller does in between has nothing to do with the store.
            with self._asking("the store could not be listed"):
                page: Sequence[Any] = next(pages, ())
            if not page:
                return
            yield from ((entry["path"], _state(entry)) for entry in page if entry["path"] != IDENTITY_KEY)

    def keys(self, folder: str = "") -> Iterator[str]:
        return (key for key, _ in self.entries(folder))

    def identity(self) -> str | None:
        with suppress(NotFound), self._asking("the store's identity cannot be read"):
            return read_identity(bytes(obstore.get(self._store, IDENTITY_KEY).bytes()))
        return None

    def identify(self, name: str) -> str:
        with suppress(Corrupt):  # somebody else's
            self._create(IDENTITY_KEY, identity_file(name), {"writer": secrets.token_hex(12)})
        return self.identity() or name

    def free_bytes(self) -> int | None:
        # Every file is received here before it goes up.
        try:
            return shutil.disk_usage(self._incoming).free
        except OSError as error:
            raise OutOfResources(f"the data folder cannot be read: {error.strerror}") from error

    def close(self) -> None:
        self._readers.shutdown(cancel_futures=True)

    def _range(self, key: str, offset: int, length: int) -> bytes:
        if length <= 0:
            return b""
        with self._asking("the object could not be read"):
            try:
                return obstore.get_range(self._store, checked(key), start=offset, length=length).to_bytes()
            except BaseError as error:
                if "416 Range Not Satisfiable" in str(error):  # begins at the end or after it
                    return b""
                raise

    @contextmanager
    def _asking(self, message: str) -> Iterator[None]:
        with self._outage.watched(), _translated(message):
            yield


def open_store(url: str, options: Mapping[str, str], timeout_s: float) -> ObjectStore:
    """The client; nothing is asked of the server yet. timeout_s: of a request and its repetitions, 0 for none of these.

    Raises ValueError, or obstore's errors, for what cannot be understood.
    """
    config: dict[str, Any] = {}
    # Half for whatever is tried in vain, half for the last try.
    wait_s = timeout_s / 2 or 5.0
    client: dict[str, Any] = {"timeout": _duration(wait_s), "connect_timeout": _duration(min(5.0, wait_s))}
    if url.startswith("s3"):
        config["checksum_algorithm"] = "SHA256"  # sent along, and checked by the store
    for name, value in options.items():
        if name in _CLIENT_OPTIONS:
            client[name] = _BOOLEANS.get(value.lower(), value)
        else:
            config[name] = value
    retry: Any = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}
    if timeout_s > 0:
        init, longest = (timedelta(seconds=seconds) for seconds in _PAUSES_S)
        backoff = {"init_backoff": init, "max_backoff": longest}
        retry = {"max_retries": 1000, "retry_timeout": timedelta(seconds=wait_s), "backoff": backoff}
    return from_url(url, config=config, client_options=client, retry_config=retry)  # type: ignore[call-overload,no-any-return]


def _duration(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"


def _state(found: Any) -> BlobState:
    modified_s = found["last_modified"].timestamp()
    return BlobState(found["size"], modified_s, modified_s)


@contextmanager
def _translated(message: str) -> Iterator[None]:
    try:
        yield
    except PacsError:
        raise
    except (NotFoundError, FileNotFoundError) as error:
        raise NotFound("the stored object is not there") from error
    except (BaseError, OSError, ValueError) as error:
        reason = str(error).partition("Debug source")[0].strip()
        log.error("%s: %s", message, reason)
        # Only the kind: the whole names hosts and paths, which a client has no business with.
        raise OutOfResources(f"{message}: {type(error).__name__}") from error
