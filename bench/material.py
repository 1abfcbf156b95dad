"""Files and request bodies of the rows; the same for every archive."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bench.corpus import Slice, Template, series_uid, study_uid

BOUNDARY = "bench-boundary-5e1f"
SENDERS = 4
_STUDY_INSTANCES = 100  # of the folders with many studies


@dataclass(frozen=True)
class Counts:
    """How much of each. ct: files of a sender; small: of a sender; imported, few, background, long: files."""

    ct: int = 400
    small: int = 2000
    imported: int = 2000
    few: int = 25
    background: int = 5000
    series: int = 100
    long: int = 1000

    @classmethod
    def quick(cls) -> Counts:
        return cls(ct=100, small=50, imported=100, background=200, long=200)


@dataclass
class Series:
    """A folder with one series, and what its instances are called."""

    folder: Path
    study: int = 0
    slices: list[Slice] = field(default_factory=list)

    @property
    def study_uid(self) -> str:
        return study_uid(self.study)

    @property
    def series_uid(self) -> str:
        return series_uid(self.study)

    @property
    def path(self) -> str:
        """Of its DICOMweb resource."""
        return f"/dicom-web/studies/{self.study_uid}/series/{self.series_uid}"


class Material:
    """Folders of files, with UIDs that no archive has seen after each ``renew``."""

    def __init__(self, folder: Path, counts: Counts) -> None:
        self.counts = counts
        self._next_study = 1
        self._next_number = 1
        self._ct = Template()
        self._small = Template(64, patient_name="Small^Image")
        self._medium = Template(256, patient_name="Medium^Image")
        self._tiny = Template(16, patient_name="Long^Series")
        self.ct = Series(folder / "ct")
        self.quarters = [Series(folder / f"ct-{number}") for number in range(SENDERS)]
        self.small = [folder / f"small-{number}" for number in range(SENDERS)]
        self.imported = folder / "imported"
        self.series = Series(folder / "series")
        self.long = Series(folder / "long")
        self.body = b""
        self.few = [folder / f"few-{number}" for number in range(SENDERS)]
        self.background = [folder / f"background-{number}" for number in range(SENDERS)]
        self._one_instance_studies(self.few, counts.few, "Few")
        self._one_instance_studies(self.background, counts.background, "Back")

    def renew(self) -> None:
        """New UIDs in all files, and a new body for STOW-RS."""
        for series in (self.ct, *self.quarters):
            self._fill(series, self._ct, self.counts.ct)
        for folder in self.small:
            self._write(folder, self._small, self._studies(self.counts.small))
        self._write(self.imported, self._medium, self._studies(self.counts.imported))
        self._fill(self.series, self._ct, self.counts.series)
        self._fill(self.long, self._tiny, self.counts.long)
        pieces: list[bytes] = []
        for slice_ in self.series.slices:
            head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n"
            pieces += [head.encode(), self._ct.stamp(slice_), b"\r\n"]
        self.body = b"".join([*pieces, f"--{BOUNDARY}--\r\n".encode()])

    def _fill(self, series: Series, template: Template, count: int) -> None:
        series.study, series.slices = self._study(count)
        self._write(series.folder, template, series.slices)

    def _studies(self, count: int) -> list[Slice]:
        found: list[Slice] = []
        for start in range(0, count, _STUDY_INSTANCES):
            found += self._study(min(_STUDY_INSTANCES, count - start))[1]
        return found

    def _study(self, count: int) -> tuple[int, list[Slice]]:
        self._next_study += 1
        first = self._next_number
        self._next_number += count
        study = self._next_study
        return study, [Slice(study, first + index, index + 1) for index in range(count)]

    def _write(self, folder: Path, template: Template, slices: list[Slice]) -> None:
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        for index, slice_ in enumerate(slices):
            path = folder / f"{index:04d}.dcm"
            if is_new:
                template.write(path, slice_)
            else:
                template.restamp(path, slice_)

    def _one_instance_studies(self, folders: list[Path], count: int, name: str) -> None:
        """Patients ``name``0000 and so on, dealt to the folders in turn."""
        template = Template(16, patient_name=f"{name}0000^Ground")
        for folder in folders:
            folder.mkdir(parents=True)
        for index in range(count):
            data = template.stamp(self._study(1)[1][0])
            data = data.replace(f"{name}0000".encode(), f"{name}{index:04d}".encode())
            (folders[index % len(folders)] / f"{index:04d}.dcm").write_bytes(data)
