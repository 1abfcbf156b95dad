"""What can be said of object stores without one: URLs and options are understood, or refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from obstore.store import AzureStore, GCSStore, S3Store

from pacs.blobs.objectstore import ObjectStoreBlobs, open_store
from pacs.errors import OutOfResources
from tests.server import clean_environment

# Base64, as Azure's keys are.
AZURE = {"account_name": "hospital", "account_key": "c2VjcmV0"}
S3 = {"endpoint": "http://s3:8333", "access_key_id": "a", "secret_access_key": "b", "allow_http": "true"}


@pytest.mark.parametrize(
    ("url", "options", "kind", "prefix"),
    [
        ("s3://bucket/a/b", S3, S3Store, "a/b"),
        ("s3://bucket", {"region": "eu-central-1", "virtual_hosted_style_request": "true"}, S3Store, None),
        ("s3://bucket", {"skip_signature": "true", "timeout": "7s", "read_timeout": "3s"}, S3Store, None),
        ("gs://bucket/a", {"skip_signature": "true"}, GCSStore, "a"),
        ("gs://bucket", {"application_credentials": "/etc/pacs/gcs.json", "proxy_url": "http://p:1"}, GCSStore, None),
        ("az://container/a/b", AZURE, AzureStore, "a/b"),
        ("abfss://container@hospital.dfs.core.windows.net/a", AZURE, AzureStore, "a"),
        ("az://container", {**AZURE, "use_emulator": "true"}, AzureStore, None),
    ],
)
def test_a_store_is_made_of_url_and_options(
    url: str, options: dict[str, str], kind: type, prefix: str | None, tmp_path: Path
) -> None:
    if "application_credentials" in options:
        credentials = tmp_path / "gcs.json"
        credentials.write_text(
            '{"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"}'
        )
        options = {**options, "application_credentials": str(credentials)}
    store = open_store(url, options, 20)
    assert isinstance(store, kind)
    assert (str(store.prefix) if store.prefix else None) == prefix


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://bucket", {"endpiont": "http://s3:8333"}),
        ("s3://bucket", {"timeout": "soon"}),
        ("az://container", {"account_key": "c2VjcmV0"}),
        ("gs://bucket", {"application_credentials": "/nowhere/gcs.json"}),
    ],
)
def test_options_that_cannot_be_understood_are_refused_at_the_start(
    url: str, options: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(OutOfResources, match="the object store cannot be used"):
        ObjectStoreBlobs(url, tmp_path / "incoming", options, timeout_s=1)


def test_without_obstore_a_plain_archive_works_and_another_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['obstore'] = None; from pacs.cli import main; sys.exit(main(['verify']))"
    environment = {**clean_environment(), "PACS_HOME": str(tmp_path), "DICOM_STORE_ROOTPATH": str(tmp_path / "data")}

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**environment, **more},
            capture_output=True,
            text=True,
            check=False,
        )

    assert run().returncode == 0
    refused = run(DICOM_STORE_URL="s3://bucket/prefix")
    assert refused.returncode == 2
    assert "pip install 'raccoon-pacs[s3]'" in refused.stderr
