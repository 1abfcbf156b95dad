"""OHIF as npm has it: fetching the package, checking it, and making the folder that the web server serves."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pacs.errors import Corrupt, Invalid, OutOfResources, PeerFailed

PACKAGE = "@ohif/app"
VERSION = "3.13.2"
# Digests of the versions that this archive was tested with, as npm's registry has them (dist.integrity).
KNOWN = {
    "3.13.2": "sha512-WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA==",
}
MARK = "installed.json"
_FETCH_S = 1800
_PREFIX = PurePosixPath("package", "dist")
# Only what its service worker would use, and a neural network's runtime, a hundred megabytes, whose models would come
# from elsewhere.
_LEFT_OUT = re.compile(r".*\.map|sw\.js|init-service-worker\.js|app-config\.js|google\.js|_headers|_redirects|ort/.*")
_COMPRESSED = (".css", ".html", ".js", ".json", ".svg", ".wasm")
_LEAST_BYTES = 1024
_MOST_BYTES = 1 << 30
_VERSION = re.compile(r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?")
_ROOT = re.compile(rb'(__webpack_require__\.p = )"/";')
# Scripts ask the folder that the page names (app-config.js), workers the one that they lie in.
_HERE = rb'\1self.PUBLIC_URL || new URL("./", self.location.href).href;'
# Scripts in the page itself, which the content security policy forbids; app-config.js does what they did.
_INLINE = re.compile(
    r"<script>.*?</script>|<script[^>]*init-service-worker\.js[^>]*></script>|<link[^>]*manifest[^>]*>"
)


@dataclass(frozen=True, slots=True)
class Installed:
    """files and size_bytes: what is served, compressed copies left out."""

    version: str
    digest: str
    files: int
    size_bytes: int

    def as_json(self) -> dict[str, Any]:
        return {
            "package": PACKAGE,
            "version": self.version,
            "digest": self.digest,
            "files": self.files,
            "bytes": self.size_bytes,
        }


def check_version(text: str) -> str:
    """Raises Invalid for what is no exact version."""
    if not _VERSION.fullmatch(text):
        raise Invalid(f"expected an exact version such as {VERSION}, not {text!r}", "version")
    return text


def fetch(version: str, folder: Path) -> Path:
    """Have npm pack one version into the folder. Raises Invalid without npm, PeerFailed when it cannot be had."""
    npm = shutil.which("npm")
    if npm is None:
        raise Invalid(
            f"npm is not installed here. Run 'npm pack {PACKAGE}@{version}' on another machine, and then "
            "'pacs viewer install --from FILE.tgz' with what it made",
            "npm",
        )
    command = [
        npm,
        "pack",
        "--json",
        "--ignore-scripts",
        "--pack-destination",
        str(folder),
        f"{PACKAGE}@{version}",
    ]
    try:
        run = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_FETCH_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PeerFailed(f"npm did not fetch {PACKAGE}@{version} within {_FETCH_S // 60} minutes") from None
    packed = sorted(folder.glob("*.tgz"))
    if run.returncode or len(packed) != 1:
        reason = next(
            (line for line in run.stderr.splitlines() if line.strip()),
            "it made no file",
        )
        raise PeerFailed(f"npm could not fetch {PACKAGE}@{version}: {reason[:300]}")
    return packed[0]


def check(path: Path, version: str) -> str:
    """Digest of the package. Raises Invalid when it is not OHIF in this version, or not the one that is known."""
    found = _digest(path)
    about = _about(path)
    if (about.get("name"), about.get("version")) != (PACKAGE, version):
        is_ohif = about.get("name") == PACKAGE
        hint = f"; say --version {about.get('version')} for it" if is_ohif else ""
        raise Invalid(f"{path.name} is not {PACKAGE} {version}{hint}", "package")
    if KNOWN.get(version, found) != found:
        raise Invalid(
            f"{path.name} is not the {PACKAGE} {version} that npm's registry has: {found}",
            "package",
        )
    return found


def count(path: Path) -> int:
    """How many steps ``install`` takes."""
    with _opened(path) as archive:
        return sum(1 for _ in _wanted(archive))


def install(path: Path, version: str, digest: str, folder: Path, advance: Callable[[], None]) -> Installed:
    """Unpack beside the folder, then put it in its place: an older one serves until then, and stays when this fails.

    Raises Invalid, Corrupt, OutOfResources.
    """
    fresh, old = _beside(folder, "new"), _beside(folder, "old")
    clear(folder)
    try:
        fresh.mkdir(parents=True)
        installed = _unpack(path, version, digest, fresh, advance)
        if folder.exists():
            folder.rename(old)
        try:
            fresh.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    except OSError as error:
        raise OutOfResources(f"{folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return installed


def installed_in(folder: Path) -> Installed | None:
    try:
        found = json.loads((folder / MARK).read_text("utf-8"))
        return Installed(found["version"], found["digest"], found["files"], found["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove(folder: Path) -> None:
    """Raises OutOfResources when it cannot be removed."""
    try:
        old = _beside(folder, "old")
        clear(folder)
        folder.rename(old)
        shutil.rmtree(old)
    except OSError as error:
        raise OutOfResources(f"{folder}: {error.strerror or error}") from error


def clear(folder: Path) -> None:
    """Remove what an interrupted run left beside the folder; put an older viewer back that it had moved aside."""
    old = _beside(folder, "old")
    if old.exists() and not folder.exists() and installed_in(old) is not None:
        old.rename(folder)
    for name in ("new", "old"):
        shutil.rmtree(_beside(folder, name), ignore_errors=True)


def _unpack(path: Path, version: str, digest: str, fresh: Path, advance: Callable[[], None]) -> Installed:
    files = size_bytes = roots = 0
    with _opened(path) as archive:
        for name, source in _wanted(archive):
            body = source.read()
            if name.suffix == ".js":
                body, replaced = _ROOT.subn(_HERE, body)
                roots += replaced if name.name.startswith("app.bundle.") else 0
            elif name.suffix == ".css":
                body = body.replace(b"url(/", b"url(" + b"../" * (len(name.parts) - 1))
            elif str(name) == "index.html":
                body = _page(body)
            _write(fresh / name, body)
            files, size_bytes = files + 1, size_bytes + len(body)
            if size_bytes > _MOST_BYTES:
                raise Invalid(f"{path.name} holds more than {_MOST_BYTES >> 20} MiB", "package")
            advance()
    if roots != 1 or not (fresh / "index.html").is_file():
        raise Invalid(f"{PACKAGE} {version} is built in a way that is not known here", "package")
    installed = Installed(version, digest, files, size_bytes)
    (fresh / MARK).write_text(json.dumps(installed.as_json()), "utf-8")
    return installed


def _write(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    if path.suffix in _COMPRESSED and len(body) >= _LEAST_BYTES and path.name != "index.html":
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(body, 6, mtime=0))


def _page(body: bytes) -> bytes:
    page = _INLINE.sub("", body.decode("utf-8"))
    if "<script>" in page or 'src="/app-config.js"' not in page:
        raise Invalid(
            f"the page of this {PACKAGE} is built in a way that is not known here",
            "package",
        )
    return page.encode()


def _wanted(archive: tarfile.TarFile) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """Files of the built viewer by their path in it. Raises Corrupt."""
    try:
        for member in archive:
            name = PurePosixPath(member.name)
            if not member.isfile() or not name.is_relative_to(_PREFIX) or ".." in name.parts:
                continue
            inner = name.relative_to(_PREFIX)
            source = archive.extractfile(member)
            if source is not None and not _LEFT_OUT.fullmatch(str(inner)):
                yield inner, source
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise Corrupt("the package cannot be unpacked") from error


def _about(path: Path) -> dict[str, Any]:
    try:
        with _opened(path) as archive:
            for member in archive:
                source = archive.extractfile(member) if member.name == "package/package.json" else None
                if source is not None:
                    found = json.loads(source.read())
                    return found if isinstance(found, dict) else {}
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise Invalid(f"{path.name} is not a package of npm's", "package") from error
    return {}


def _opened(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise Invalid(f"{path.name} is not a package of npm's", "package") from error


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha512").digest()
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}", "package") from error
    return f"sha512-{base64.b64encode(found).decode()}"


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}")
