"""Taking over what other archives hold: raccoon-dicom's files and database, Orthanc, and any DICOMweb server."""
