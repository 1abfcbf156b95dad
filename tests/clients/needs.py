"""What the client tests need besides Python packages; scripts/test installs it as root with apt and npm at hand."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.clients import npm

_FILES = {
    "chromium": "/usr/bin/chromium",
    "dcmtk": "/usr/bin/dcm2json",
    "orthanc": "/usr/sbin/Orthanc",
    "orthanc-dicomweb": "/usr/share/orthanc/plugins/libOrthancDicomWeb.so",
}


def needs(*debian: str, npm_packages: Iterable[str] = ()) -> pytest.MarkDecorator:
    """Skip, naming what is missing. npm_packages: names without version."""
    names = tuple(npm_packages)
    missing = [f"Debian's {package}" for package in debian if not _is_installed(package)]
    if "oidc-provider" in names and not npm.has_identity_provider():
        missing.append("npm's oidc-provider")
    missing += [f"npm's {package}" for package in npm.missing() if package.rpartition("@")[0] in names]
    return pytest.mark.skipif(bool(missing), reason=f"MISSING: {', '.join(missing)} (scripts/test installs it as root)")


def _is_installed(package: str) -> bool:
    path = _FILES.get(package)
    return Path(path).exists() if path else shutil.which(package) is not None
