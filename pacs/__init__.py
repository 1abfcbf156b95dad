"""A medical image archive: DIMSE and DICOMweb side by side over one index and one file store."""

__version__ = "0.1.0"
