"""The data dictionaries that the web page names attributes by."""

from __future__ import annotations

import pydicom
import pytest

from scripts import page_dictionary


@pytest.mark.parametrize("name", ["dictionary", "private"])
def test_the_dictionaries_of_the_page_are_those_of_pydicom(name: str) -> None:
    if pydicom.__version__ != page_dictionary.PYDICOM:
        pytest.skip(f"the files are from pydicom {page_dictionary.PYDICOM}: python -m scripts.page_dictionary")
    made = page_dictionary.public() if name == "dictionary" else page_dictionary.private()
    assert (page_dictionary.FOLDER / f"{name}.json").read_text("utf-8") == page_dictionary.text(made)


def test_public_repeating_and_private_attributes_have_names() -> None:
    public, private = page_dictionary.public(), page_dictionary.private()
    assert public["attributes"]["00100010"] == ["PN", "Patient's Name", "PatientName"]
    assert public["repeating"]["60xx0010"][1] == "Overlay Rows"
    assert public["uids"]["1.2.840.10008.5.1.4.1.1.2"] == "CT Image Storage"
    assert private["SIEMENS CSA HEADER"]["0029XX10"][1] == "CSA Image Header Info"
