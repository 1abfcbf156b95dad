"""The data dictionaries that the web page names attributes by."""

from __future__ import annotations

import subprocess
import sys

import pydicom
import pytest

from scripts import page_dictionary
from tests.server import PROJECT


def test_the_dictionaries_of_the_page_are_those_of_pydicom() -> None:
    if pydicom.__version__ != page_dictionary.PYDICOM:
        pytest.skip(f"the files are from pydicom {page_dictionary.PYDICOM}: python -m scripts.page_dictionary")
    # In a process of its own: libraries of other tests add to pydicom's tables.
    script = (
        "import sys; from scripts import page_dictionary as made; "
        "sys.stdout.reconfigure(encoding='utf-8'); "
        "print(made.text(made.public()) + made.text(made.private()), end='')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, check=True)
    kept = [(page_dictionary.FOLDER / f"{name}.json").read_text("utf-8") for name in ("dictionary", "private")]
    assert done.stdout.decode("utf-8") == "".join(kept)


def test_public_repeating_and_private_attributes_have_names() -> None:
    public, private = page_dictionary.public(), page_dictionary.private()
    assert public["attributes"]["00100010"] == ["PN", "Patient's Name", "PatientName"]
    assert public["repeating"]["60xx0010"][1] == "Overlay Rows"
    assert public["uids"]["1.2.840.10008.5.1.4.1.1.2"] == "CT Image Storage"
    assert private["SIEMENS CSA HEADER"]["0029XX10"][1] == "CSA Image Header Info"
