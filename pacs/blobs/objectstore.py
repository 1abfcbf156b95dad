"""Blobs as objects of S3, Google Cloud Storage or Azure, over obstore."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import from_url

from pacs.blobs.base import BlobState
from pacs.dicom.model import BlobRef
from pacs.errors import Corrupt, NotFound, OutOfResources, PacsError

log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20
# Up to this size an object goes up in one request, which the store itself makes conditional.
_WHOLE_BYTES = 16 << 20
_PART_BYTES = 8 << 20
_MAX_PARTS = 9000  # S3 takes 10,000
_RANGE_BYTES = 4 << 20
_READERS = 16
# Options that belong to the HTTP client, not to the kind of store.
_CLIENT_OPTIONS = frozenset(
    {"allow_http", "allow_invalid_certificates", "connect_timeout", "proxy_url", "root_certificate", "timeout"}
)
_BOOLEANS = {"true": True, "false": False}


class ObjectStoreBlobs:
    """Objects below ``url`` (s3://bucket/prefix, gs://…, az://…); what is being received lies in ``incoming``, locally.

    options: obstore's names, such as endpoint, region, access_key_id, secret_access_key, allow_http; what is left out
    comes from the environment (AWS_*, GOOGLE_*, AZURE_*). Every request is repeated, with growing pauses, for at most
    ``retry_s`` seconds. Raises OutOfResources when the bucket cannot be listed with these.
    """

    def __init__(
        self, url: str, incoming: Path, options: Mapping[str, str] | None = None, *, retry_s: float = 20
    ) -> None:
        config: dict[str, Any] = {}
        client: dict[str, Any] = {"timeout": "60s", "connect_timeout": "5s"}
        if url.startswith("s3"):
            config["checksum_algorithm"] = "SHA256"  # sent along, and checked by the store
        for name, value in (options or {}).items():
            if name in _CLIENT_OPTIONS:
                client[name] = _BOOLEANS.get(value.lower(), value)
            else:
                config[name] = value
        self._incoming = incoming
        try:
            incoming.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutOfResources(f"the data folder cannot be written: {error.strerror}") from error
        with _translated("the object store cannot be used"):
            self._store = from_url(
                url,
                config=config,  # type: ignore[call-overload]
                client_options=client,
                retry_config={
                    "max_retries": 8,
                    "retry_timeout": timedelta(seconds=retry_s),
                    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5)},
                },
            )
            next(iter(obstore.list(self._store, chunk_size=1)), None)
        self._readers = ThreadPoolExecutor(_READERS, "read-ahead")

    def incoming(self) -> Path:
        return self._incoming

    def adopt(self, path: Path, key: str) -> None:
        key = _checked(key)
        # Tells an object of this very call, whose acknowledgement was lost and which was sent again, from any other.
        writer = {"writer": secrets.token_hex(12)}
        try:
            size_bytes = path.stat().st_size
            if size_bytes <= _WHOLE_BYTES:
                self._create(key, path.read_bytes(), writer)
            else:
                self._upload(key, path, size_bytes, writer)
            path.unlink(missing_ok=True)
        except PacsError:
            raise
        except OSError as error:
            raise OutOfResources(f"the file could not be stored: {error.strerror or type(error).__name__}") from error

    def _create(self, key: str, content: bytes, writer: dict[str, str]) -> None:
        with _translated("the object could not be stored"):
            try:
                obstore.put(self._store, key, content, mode="create", use_multipart=False, attributes=writer)
            except AlreadyExistsError:
                found = obstore.get(self._store, key, options={"head": True})
                if found.attributes.get("writer") != writer["writer"]:
                    raise Corrupt("a stored object would have been overwritten") from None

    def _upload(self, key: str, path: Path, size_bytes: int, writer: dict[str, str]) -> None:
        """In parts. These cannot be conditional, so that an empty object takes the key first: a whole one replaces it.

        After a crash in between, the empty object is left, without a row: ``pacs verify`` finds it.
        """
        self._create(key, b"", writer)
        try:
            with _translated("the object could not be stored"), path.open("rb") as file:
                part = max(_PART_BYTES, -(-size_bytes // _MAX_PARTS))
                obstore.put(
                    self._store,
                    key,
                    file,
                    use_multipart=True,
                    chunk_size=part,
                    max_concurrency=2,
                    attributes=writer,
                )
                if obstore.head(self._store, key)["size"] != size_bytes:
                    raise OutOfResources("the object store did not take all parts")
        except BaseException:
            with suppress(PacsError):
                self.delete(BlobRef(key, 0, ""))
            raise

    def read(self, ref: BlobRef, offset: int = 0, length: int | None = None) -> bytes:
        wanted = ref.size_bytes - offset if length is None else length
        return self._range(ref.key, offset, wanted)

    def stream(self, ref: BlobRef, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        wanted = ref.size_bytes - offset if length is None else length
        following = self._readers.submit(self._range, ref.key, offset, min(wanted, _RANGE_BYTES))
        while wanted > 0:
            asked = min(wanted, _RANGE_BYTES)
            data = following.result()
            offset += len(data)
            # A range that came short was the object's last.
            wanted = wanted - asked if len(data) == asked else 0
            if wanted > 0:
                following = self._readers.submit(self._range, ref.key, offset, min(wanted, _RANGE_BYTES))
            for start in range(0, len(data), PIECE_BYTES):
                yield data[start : start + PIECE_BYTES]

    def local_path(self, ref: BlobRef) -> Path | None:
        return None

    def state(self, key: str) -> BlobState:
        with _translated("the object could not be looked at"):
            found = obstore.head(self._store, _checked(key))
        return BlobState(found["size"], found["last_modified"].timestamp(), found["last_modified"].timestamp())

    def delete(self, ref: BlobRef) -> None:
        with suppress(NotFound), _translated("the object could not be removed"):
            obstore.delete(self._store, _checked(ref.key))

    def keys(self) -> Iterator[str]:
        with _translated("the store could not be listed"):
            for batch in obstore.list(self._store):
                for entry in batch:
                    yield entry["path"]

    def free_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        self._readers.shutdown(cancel_futures=True)

    def _range(self, key: str, offset: int, length: int) -> bytes:
        if length <= 0:
            return b""
        with _translated("the object could not be read"):
            try:
                return obstore.get_range(self._store, _checked(key), start=offset, length=length).to_bytes()
            except BaseError as error:
                if "416 Range Not Satisfiable" in str(error):  # begins at the end or after it
                    return b""
                raise


def _checked(key: str) -> str:
    if not key or key.startswith("/") or any(part in ("", ".", "..") for part in key.split("/")):
        raise Corrupt("a file key leads out of the store")
    return key


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
