"""The data dictionaries that the web page names attributes by."""

from __future__ import annotations

import subprocess
import sys

import pydicom
import pytest

from scripts import page_dictionary


@pytest.mark.parametrize("name", ["dictionary", "private"])
def test_the_dictionaries_of_the_page_are_those_of_pydicom(name: str) -> None:
    if pydicom.__version__ != page_dictionary.PYDICOM:
        pytest.skip(f"the files are from pydicom {page_dictionary.PYDICOM}: python -m scripts.page_dictionary")
    made = {"dictionary": "public", "private": "private"}[name]
    # In a process of its own: other tests' packages add attributes to pydicom's dictionary.
    code = f"import sys; from scripts import page_dictionary as p; sys.stdout.buffer.write(p.text(p.{made}()).encode())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (page_dictionary.FOLDER / f"{name}.json").read_bytes() == ran.stdout


def test_public_repeating_and_private_attributes_have_names() -> None:
    public, private = page_dictionary.public(), page_dictionary.private()
    assert public["attributes"]["00100010"] == ["PN", "Patient's Name", "PatientName"]
    assert public["repeating"]["60xx0010"][1] == "Overlay Rows"
    assert public["uids"]["1.2.840.10008.5.1.4.1.1.2"] == "CT Image Storage"
    assert private["SIEMENS CSA HEADER"]["0029XX10"][1] == "CSA Image Header Info"
