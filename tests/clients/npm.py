"""The npm packages of the client tests, in the git-ignored .cache/npm: ``python -m tests.clients.npm`` fetches them.

Packed by npm itself, from the registry that it is set up for, and unpacked without their dependencies: the built OHIF
carries all it needs, and installing it the usual way would bring hundreds of packages that only its build uses.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

PACKAGES = Path(__file__).with_name("npm-packages.txt")
CACHE = Path(__file__).resolve().parent.parent.parent / ".cache" / "npm"
MODULES = CACHE / "node_modules"
# An OpenID Connect provider, which needs a hundred packages: npm's own lock file pins them, with their digests.
IDENTITY_SOURCE = Path(__file__).with_name("oidc-provider")
IDENTITY_PROVIDER = CACHE.parent / "oidc-provider"
_TIMEOUT_S = 300


def wanted() -> dict[str, str]:
    """Digest of each package, by name@version."""
    lines = PACKAGES.read_text().splitlines()
    return dict(line.split() for line in lines if line and not line.startswith("#"))


def folder_of(package: str) -> Path:
    return MODULES / package.rpartition("@")[0]


def missing() -> list[str]:
    """Packages that are not there in the version that is wanted."""
    return [package for package, digest in wanted().items() if not _is_there(package, digest)]


def tarball(package: str) -> Path:
    """The package as the registry has it."""
    path = folder_of(package) / ".package.tgz"
    if not path.exists():
        fetch(package, wanted()[package])
    return path


def fetch(package: str, digest: str) -> None:
    """Pack, check and unpack one. Raises SystemExit when that cannot be done."""
    CACHE.mkdir(parents=True, exist_ok=True)
    command = ["npm", "pack", "--json", "--ignore-scripts", "--pack-destination", str(CACHE), package]
    try:
        run = subprocess.run(command, cwd=CACHE, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SystemExit(f"npm pack {package}: {error}") from error
    if run.returncode:
        raise SystemExit(f"npm pack {package} failed:\n{run.stderr[-2000:]}")
    (packed,) = json.loads(run.stdout)
    archive = CACHE / packed["filename"].replace("@", "").replace("/", "-")
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != digest:
        raise SystemExit(f"{package} is not the one that is wanted: {found}")
    folder = folder_of(package)
    fresh = CACHE / f"unpacking-{os.getpid()}"
    with tarfile.open(archive) as tar:
        # Source maps are three quarters of OHIF.
        members = [member for member in tar.getmembers() if not member.name.endswith(".map")]
        # Its digest is the known one; Python before 3.11.4 has no filters.
        tar.extractall(fresh, members, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    (fresh / "package").rename(folder)
    archive.replace(folder / ".package.tgz")
    (folder / ".digest").write_text(digest)
    shutil.rmtree(fresh)


def _is_there(package: str, digest: str) -> bool:
    mark = folder_of(package) / ".digest"
    return mark.is_file() and mark.read_text() == digest


def has_identity_provider() -> bool:
    """Whether it is there, as its lock file has it."""
    lock, mark = IDENTITY_SOURCE / "package-lock.json", IDENTITY_PROVIDER / ".installed"
    return mark.is_file() and mark.read_text() == lock.read_text()


def fetch_identity_provider() -> None:
    """Raises SystemExit when npm cannot."""
    IDENTITY_PROVIDER.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(IDENTITY_SOURCE / name, IDENTITY_PROVIDER / name)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        run = subprocess.run(
            command, cwd=IDENTITY_PROVIDER, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SystemExit(f"npm ci: {error}") from error
    if run.returncode:
        raise SystemExit(f"npm ci failed:\n{run.stderr[-2000:]}")
    shutil.copy(IDENTITY_SOURCE / "package-lock.json", IDENTITY_PROVIDER / ".installed")


def main() -> None:
    for package in missing():
        print(f"Fetching {package} …", file=sys.stderr)
        fetch(package, wanted()[package])
    if not has_identity_provider():
        print("Fetching oidc-provider …", file=sys.stderr)
        fetch_identity_provider()


if __name__ == "__main__":
    main()
