"""Made-up but lifelike headers, without files: what a million-instance index is filled with.

Three vendors' CT, MR and US, with their private blocks and sequences, modelled on what their scanners write (the real
ones in the pydicom wheel among them). Everything follows from the seed and the number of the study, so any study can
be made again. Ages of studies are in no order, which is harder on an index than an archive that grows day by day.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from random import Random
from typing import Any

from pacs.dicom.dictionary import public_vr
from pacs.dicom.layout import Layout, PixelLayout, Span
from pacs.dicom.model import BlobRef, Caller, Header, InstanceRecord, Target

YEARS = 15
FIRST_DAY = date(2011, 1, 1)
DAYS = 365 * YEARS
MEAN_INSTANCES = 50
STUDIES_PER_PATIENT = 20 / 12

_EXPLICIT, _JPEG_LOSSLESS = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.70"
_CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
}
# Instances of a study: their logarithms are spread normally; means come out near MEAN_INSTANCES over all.
_MODALITIES = (("CT", 0.5, 70.0, 1.0), ("MR", 0.22, 60.0, 0.7), ("US", 0.28, 10.0, 0.6))
_SURNAME_WORDS = (
    "SMITH JOHNSON WILLIAMS BROWN JONES GARCIA MILLER DAVIS RODRIGUEZ MARTINEZ HERNANDEZ LOPEZ GONZALEZ WILSON ANDERSON"
    " THOMAS TAYLOR MOORE JACKSON MARTIN LEE PEREZ THOMPSON WHITE HARRIS SANCHEZ CLARK RAMIREZ LEWIS ROBINSON WALKER"
    " YOUNG ALLEN KING WRIGHT SCOTT TORRES NGUYEN HILL FLORES GREEN ADAMS NELSON BAKER HALL RIVERA CAMPBELL MITCHELL"
    " CARTER ROBERTS MÜLLER SCHMIDT SCHNEIDER FISCHER WEBER MEYER WAGNER BECKER SCHULZ HOFFMANN KOCH BAUER RICHTER"
    " SCHRÖDER NEUMANN SCHWARZ ZIMMERMANN BRAUN KRÜGER HOFMANN HARTMANN LANGE ROSSI FERRARI ESPOSITO BIANCHI ROMANO"
    " COLOMBO RICCI MARINO GRECO DUBOIS DURAND LEROY MOREAU LAURENT LEFÈVRE ROUX GIRARD DUPONT BONNET KOWALSKI NOWAK"
    " WIŚNIEWSKI JANSEN BAKKER VISSER SMIT NIELSEN HANSEN ANDERSSON JOHANSSON KORHONEN VIRTANEN SILVA SANTOS FERREIRA"
    " PEREIRA COSTA CHEN WANG LI ZHANG LIU YANG HUANG WU KIM PARK CHOI TANAKA SUZUKI SATO YAMADA WATANABE"
)
_GIVEN_WORDS = (
    "JAMES MARY ROBERT PATRICIA JOHN JENNIFER MICHAEL LINDA DAVID ELIZABETH WILLIAM BARBARA RICHARD SUSAN JOSEPH"
    " JESSICA THOMAS SARAH CHARLES KAREN ANNA PETER HANS GRETA LUCA GIULIA MARIE PIERRE CLAIRE JEAN SOFIA MATEO LUCIA"
    " HUGO EMMA LIAM NOAH OLIVIA AVA MIA PIOTR KATARZYNA JAN EVA LARS INGRID YUKI HIROSHI MEI WEI MIN JUN SEO HANA"
)
_SYLLABLE_WORDS = (
    "BA BE BO CA CE DA DE FA GO HA JO KA KO LA LE LI MA ME MO NA NE NO PA PE RA RE RI RO SA SE SI TA TE VA"
)
_SURNAMES, _GIVEN, _SYLLABLES = _SURNAME_WORDS.split(), _GIVEN_WORDS.split(), _SYLLABLE_WORDS.split()
_DESCRIPTIONS = {
    "CT": ("CT THORAX W CONTRAST", "CT ABDOMEN PELVIS", "CT HEAD WO CONTRAST", "CT ANGIO PULM", "CT C-SPINE"),
    "MR": ("MRI BRAIN W/WO", "MR KNEE LEFT", "MR LUMBAR SPINE", "MR ABDOMEN MRCP", "MRI SHOULDER RIGHT"),
    "US": ("US ABDOMEN COMPLETE", "US THYROID", "US OB 2ND TRIM", "US CAROTID DOPPLER", "US RENAL"),
}
_SERIES = {
    "CT": (
        "Topogram  0.6  T20f",
        "Thorax  5.0  B31f",
        "Lung  1.0  B70f",
        "Abd  3.0  I30f  3",
        "COR MPR",
        "SAG MPR",
        "Dose",
    ),
    "MR": (
        "localizer",
        "t1_se_tra",
        "t2_tse_tra_fs",
        "t2_tirm_tra_dark-fluid",
        "ep2d_diff_4scan_trace_p2",
        "t1_mprage_sag",
    ),
    "US": ("Abdomen", "Vascular", "Small Parts", "OB"),
}
_BODY = {"CT": ("CHEST", "ABDOMEN", "HEAD"), "MR": ("BRAIN", "KNEE", "LSPINE"), "US": ("ABDOMEN", "NECK", "UTERUS")}
_VENDORS = ("SIEMENS", "GE MEDICAL SYSTEMS", "Philips Medical Systems")
_MODELS = {
    "CT": ("SOMATOM Definition AS+", "Revolution CT", "iCT 256"),
    "MR": ("Skyra", "SIGNA Architect", "Ingenia"),
    "US": ("ACUSON Sequoia", "LOGIQ E9", "EPIQ 7G"),
}


@dataclass(frozen=True)
class Plan:
    """One study before its headers are made: what queries are asked by."""

    number: int
    modality: str
    patient_number: int
    instances: int
    day: date
    patient_id: str
    patient_name: str
    study_uid: str
    vendor: int
    is_anonymized: bool


class Population:
    """All studies of one seed."""

    def __init__(self, seed: int, studies: int) -> None:
        self.seed = seed
        self.studies = studies
        self._patients = max(1, round(studies / STUDIES_PER_PATIENT))

    def plan(self, number: int) -> Plan:
        """Study ``number``, from 0. The sizes of the first studies do not depend on how many there are."""
        random = Random(f"{self.seed}/study/{number}")
        modality, mean, spread = _modality(random.random())
        instances = max(1, min(2000, round(mean * math.exp(random.gauss(0, spread) - spread * spread / 2))))
        # New patients come as fast as the archive grows, and some come again.
        patient = (
            int(number / STUDIES_PER_PATIENT) if random.random() < 0.7 else random.randrange(number + 1) * 12 // 20
        )
        day = FIRST_DAY + timedelta(days=random.randrange(DAYS))
        vendor = random.randrange(3)
        is_anonymized = random.random() < 0.1
        person = Random(f"{self.seed}/patient/{patient}")
        return Plan(
            number,
            modality,
            patient,
            instances,
            day,
            f"{person.randrange(10**8):08d}",
            _name(person),
            _uid(random, 3 if is_anonymized else vendor, day, 1, number),
            vendor,
            is_anonymized,
        )

    def records(self, number: int, received_at: datetime) -> Iterator[list[InstanceRecord]]:
        """A study's instances, a list a series."""
        yield from _Study(self, self.plan(number)).series(received_at)

    def first(self, number: int, received_at: datetime) -> InstanceRecord:
        """One instance of a study, for an index of studies alone."""
        return _Study(self, self.plan(number)).one(received_at)


def _modality(draw: float) -> tuple[str, float, float]:
    """Modality, mean and spread of the number of instances; draw: from 0 to 1."""
    for modality, share, mean, spread in _MODALITIES[:-1]:
        if draw < share:
            return modality, mean, spread
        draw -= share
    modality, _, mean, spread = _MODALITIES[-1]
    return modality, mean, spread


def _name(random: Random) -> str:
    surname = _SURNAMES[min(int(random.paretovariate(0.7)) - 1, 10**6) % len(_SURNAMES)]
    if random.random() < 0.5:
        surname = "".join(random.choice(_SYLLABLES) for _ in range(random.choice((2, 3, 3, 4)))) + random.choice(
            ("N", "R", "S", "SON", "MANN", "SKI", "")
        )
    middle = random.choice(_GIVEN) if random.random() < 0.2 else ""
    return f"{surname}^{random.choice(_GIVEN)}{'^' + middle if middle else ''}"


def _uid(random: Random, vendor: int, day: date, kind: int, serial: int) -> str:
    """As the vendors make them, up to 64 characters; vendor 3: random, as anonymizers do."""
    moment = f"{day:%Y%m%d}{random.randrange(80000, 180000):06d}"
    if vendor == 3:
        return f"2.25.{random.getrandbits(127)}"
    if vendor == 0:
        return f"1.3.12.2.1107.5.1.4.{73000 + serial % 40}.3000000{moment[2:8]}{random.randrange(10**14):014d}"
    if vendor == 1:
        device = 2831868420 + serial % 30
        number = f"{moment[4:]}{random.randrange(10**6):06d}"
        return f"1.2.840.113619.2.416.{kind}.{device}.{random.randrange(1000)}.{number}"
    return f"1.3.46.670589.33.{kind}.{random.getrandbits(63)}.{random.getrandbits(63)}"


class _Study:
    def __init__(self, population: Population, plan: Plan) -> None:
        self._plan = plan
        self._random = Random(f"{population.seed}/contents/{plan.number}")
        self._hour = f"{self._random.randrange(7, 19):02d}{self._random.randrange(60):02d}"

    def series(self, received_at: datetime) -> Iterator[list[InstanceRecord]]:
        plan, random = self._plan, self._random
        number_of_series = min(plan.instances, random.choice((1, 2, 3, 3, 4, 5, 8) if plan.modality != "US" else (1,)))
        left = plan.instances
        for number in range(1, number_of_series + 1):
            rest = number_of_series - number
            count = left if rest == 0 else min(left - rest, max(1, round(left * random.betavariate(1.2, rest + 0.7))))
            left -= count
            yield list(self._records(number, count, received_at))

    def one(self, received_at: datetime) -> InstanceRecord:
        return next(self._records(1, 1, received_at))

    def _records(self, number: int, count: int, received_at: datetime) -> Iterator[InstanceRecord]:
        plan, random = self._plan, self._random
        series = _Series(plan, number, self._hour, random)
        sop_class = _CLASSES[plan.modality]
        source = Caller(f"{plan.modality}{plan.number % 40:02d}", f"10.20.{plan.number % 250}.17", "dimse")
        for position in range(count):
            attributes = series.instance(position)
            sop_uid = attributes["00080018"]["Value"][0]
            size_bytes = series.frame_bytes + 4000 + random.randrange(200)
            span = Span(3900 + random.randrange(200), series.frame_bytes)
            pixels = PixelLayout("7FE00010", span, False, 1, series.frame_bytes)
            bulk = {"7FE00010": span}
            if plan.vendor == 0:
                bulk = {"00291010": Span(2000, 11000), "00291020": Span(13012, 80000), **bulk}
            key = f"{received_at:%Y/%m}/{plan.study_uid}/{series.uid}/{sop_uid}-{random.getrandbits(48):012x}.dcm"
            digest = hashlib.sha256(key.encode()).hexdigest()
            yield InstanceRecord(
                Header(
                    Target(plan.study_uid, series.uid, sop_uid),
                    sop_class,
                    series.transfer_syntax,
                    350 + len(sop_uid),
                    attributes,
                    Layout(pixels, bulk),
                ),
                BlobRef(key, size_bytes, f"sha256:{digest}"),
                received_at + timedelta(microseconds=random.randrange(10**6)),
                source,
            )


class _Series:
    """Attributes that a series shares, and what each instance changes of them."""

    def __init__(self, plan: Plan, number: int, hour: str, random: Random) -> None:
        self._plan, self._number, self._vendor, self._hour, self._random = plan, number, plan.vendor, hour, random
        naming = 3 if plan.is_anonymized else plan.vendor
        self.uid = _uid(random, naming, plan.day, 2, plan.number)
        self.transfer_syntax = _JPEG_LOSSLESS if random.random() < 0.2 else _EXPLICIT
        self._rows = 512 if plan.modality == "CT" else random.choice((256, 320, 384, 512))
        if plan.modality == "US":
            self._rows = 768
        self.frame_bytes = self._rows * (1024 * 3 if plan.modality == "US" else self._rows * 2)
        self._start = random.randrange(3600)
        self._z = round(random.uniform(-900, 200), 1)
        self._step = random.choice((0.6, 1.0, 1.5, 3.0, 5.0))
        # Instances of a scanner are numbered on from a root of their series.
        self._sop_root = _uid(random, naming, plan.day, 3, plan.number)

    def instance(self, position: int) -> dict[str, Any]:
        found = {**self._shared, **self._own(position)}
        return {tag: found[tag] for tag in sorted(found)}

    def _sop_uid(self, position: int) -> str:
        if self._sop_root.startswith("2.25."):
            return f"2.25.{self._random.getrandbits(127)}"
        if self._vendor == 0:
            return f"{self._sop_root[:-6]}{int(self._sop_root[-6:]) // 2 + position:06d}"
        return f"{self._sop_root[:58]}.{position + 1}"

    @cached_property
    def _shared(self) -> dict[str, Any]:
        plan, random, vendor = self._plan, self._random, self._vendor
        modality = plan.modality
        person = Random(f"person/{plan.patient_id}")
        day = f"{plan.day:%Y%m%d}"
        birth = date(1930, 1, 1) + timedelta(days=person.randrange(80 * 365))
        study = Random(f"study/{plan.study_uid}")
        accession = f"A{day[2:]}{study.randrange(10**6):06d}"
        procedure = study.choice(_DESCRIPTIONS[modality])
        code = [
            _item("SH", "00080100", f"{modality}{study.randrange(900):03d}")
            | _item("SH", "00080102", "99LOCAL")
            | _item("LO", "00080104", procedure)
        ]
        physician = _name(Random(f"physician/{study.randrange(200)}"))
        values: dict[str, Any] = {
            "00080005": "ISO_IR 100",
            "00080012": day,
            "00080016": _CLASSES[modality],
            "00080020": day,
            "00080021": day,
            "00080022": day,
            "00080023": day,
            "00080030": f"{self._hour}{study.randrange(60):02d}.{study.randrange(1000):03d}000",
            "00080031": self._time(0),
            "00080050": accession,
            "00080060": modality,
            "00080070": _VENDORS[vendor],
            "00080080": "University Hospital",
            "00080081": "1 Hospital Road, 12345 Sampletown",
            "00080090": {"Alphabetic": physician},
            "00081010": f"{modality}{plan.number % 40:02d}",
            "00081030": procedure,
            "00081032": code,
            "0008103E": study.choice(_SERIES[modality]) if self._number == 1 else random.choice(_SERIES[modality]),
            "00081040": "Radiology",
            "00081048": {"Alphabetic": physician},
            "00081050": {"Alphabetic": _name(Random(f"performer/{study.randrange(60)}"))},
            "00081070": {"Alphabetic": _name(Random(f"operator/{study.randrange(80)}"))},
            "00081090": _MODELS[modality][vendor],
            "00081110": [_item("UI", "00081150", "1.2.840.10008.3.1.2.3.1") | _item("UI", "00081155", plan.study_uid)],
            "00081111": [
                _item("UI", "00081150", "1.2.840.10008.3.1.2.3.3") | _item("UI", "00081155", f"{plan.study_uid[:60]}.2")
            ],
            "00100010": {"Alphabetic": plan.patient_name},
            "00100020": plan.patient_id,
            "00100030": f"{birth:%Y%m%d}",
            "00100040": person.choice("FM"),
            "00101010": f"{min(99, max(0, plan.day.year - birth.year)):03d}Y",
            "00101030": person.randrange(45, 110),
            "00180015": random.choice(_BODY[modality]),
            "00181000": f"{73000 + plan.number % 40}",
            "00181020": "syngo CT VA48A" if vendor == 0 else "gmp_vct.42",
            "00181030": f"{procedure.title()} (Adult)",
            "0020000D": plan.study_uid,
            "0020000E": self.uid,
            "00200010": accession[1:],
            "00200011": self._number,
            "00280002": 3 if modality == "US" else 1,
            "00280004": "RGB" if modality == "US" else "MONOCHROME2",
            "00280010": self._rows,
            "00280011": 1024 if modality == "US" else self._rows,
            "00280100": 8 if modality == "US" else 16,
            "00280101": 8 if modality == "US" else 12,
            "00280102": 7 if modality == "US" else 11,
            "00280103": 0,
            "00321060": procedure,
            "00400244": day,
            "00400245": self._time(0),
            "00400253": f"{study.randrange(10**8):08d}",
            "00400254": procedure,
            "00400275": [
                _item("LO", "00321060", procedure)
                | {"00400008": {"vr": "SQ", "Value": code}}
                | _item("SH", "00400009", f"SPS{accession}")
                | _item("SH", "00401001", f"RP{accession}")
            ],
        }
        if modality == "US":
            return _elements(values) | _ULTRASOUND | _PRIVATE[vendor]
        values |= {
            "00180050": self._step,
            "00185100": "HFS",
            "00200037": [1, 0, 0, 0, 1, 0],
            "00200052": f"{self.uid[:60]}.9",
            "00201040": "" if modality == "MR" else "SN",
            "00280030": [round(random.uniform(0.4, 0.98), 6)] * 2,
            "00281050": [40, -600] if modality == "CT" else 600,
            "00281051": [400, 1200] if modality == "CT" else 1400,
        }
        values |= _CT if modality == "CT" else _MR
        return _elements(values) | _PRIVATE[vendor]

    def _own(self, position: int) -> dict[str, Any]:
        random, modality = self._random, self._plan.modality
        at = self._time(position)
        values: dict[str, Any] = {
            "00080008": ["ORIGINAL", "PRIMARY", "AXIAL"] if modality != "US" else ["ORIGINAL", "PRIMARY", "ABDOMINAL"],
            "00080013": at,
            "00080018": self._sop_uid(position),
            "00080032": at,
            "00080033": self._time(position + 1),
            "00200012": 1 + position // 100,
            "00200013": position + 1,
        }
        if modality == "US":
            found = _elements(values)
            found["00186011"] = _regions(random)
            return found
        z = round(self._z + self._step * position, 4)
        values |= {
            "0008002A": f"{self._plan.day:%Y%m%d}{at}",
            "00083010": f"{self._sop_root[:50]}.{4 + position // 8}",
            "00200032": [round(-250 + self._z / 9, 6), round(-412.3 + self._z / 7, 6), z],
            "00201041": z,
            "00280106": random.randrange(0, 30),
            "00280107": random.randrange(1200, 4000),
        }
        if modality == "CT":
            values |= {
                "00181130": round(130 + self._z / 50, 1),
                "00181151": random.randrange(90, 420),
                "00181152": random.randrange(40, 210),
                "00189345": round(random.uniform(3, 14), 12),
            }
        else:
            values |= {"00181314": 90, "00181316": round(random.uniform(0.01, 1.9), 14), "00189087": 0}
        found = _elements(values)
        found["00081140"] = {
            "vr": "SQ",
            "Value": [
                _item("UI", "00081150", _CLASSES[modality]) | _item("UI", "00081155", f"{self._sop_root[:56]}.{n}")
                for n in range(2)
            ],
        }
        if self._vendor == 1:
            found["00271041"] = {"vr": "FL", "Value": [z]}
            found["00271044"] = {"vr": "FL", "Value": [round(z - 11.2, 5)]}
            found["0027104A"] = {"vr": "FL", "Value": [round(z + 5.3, 5)]}
            found["00191003"] = {"vr": "DS", "Value": [random.randrange(300, 400) + 0.75]}
        return found

    def _time(self, position: int) -> str:
        second = self._start + position * 0.49
        whole = int(second)
        hour = int(self._hour[:2]) + whole // 3600
        return f"{hour:02d}{whole // 60 % 60:02d}{whole % 60:02d}.{int(second % 1 * 1e6):06d}"


def _elements(values: dict[str, Any]) -> dict[str, Any]:
    return {tag: _element(public_vr(int(tag, 16)) or "UN", value) for tag, value in values.items()}


def _element(vr: str, value: Any) -> dict[str, Any]:
    # Tags whose VR depends on Pixel Representation.
    vr = vr if len(vr) == 2 else "US"
    if value == "" or value is None:
        return {"vr": vr}
    return {"vr": vr, "Value": value if isinstance(value, list) else [value]}


def _item(vr: str, tag: str, value: str) -> dict[str, Any]:
    return {tag: _element(vr, value)}


def _regions(random: Random) -> dict[str, Any]:
    """Sequence of Ultrasound Regions."""
    item = {
        "00186012": 1, "00186014": 1, "00186016": 2, "00186018": 120, "0018601A": 60, "0018601C": 900, "0018601E": 700,
        "00186020": 400, "00186022": 0, "00186024": 3, "00186026": 3,
        "0018602C": round(random.uniform(0.01, 0.05), 14), "0018602E": round(random.uniform(0.01, 0.05), 14),
    }  # fmt: skip
    return {"vr": "SQ", "Value": [_elements(item)]}


_CT = {
    "00180022": "HELICAL MODE", "00180060": 120, "00180090": 500, "00181041": "", "00181100": 380, "00181110": 1085.6,
    "00181111": 595, "00181120": 0, "00181140": "CW", "00181150": 500, "00181160": "WEDGE_2", "00181170": 42,
    "00181190": 1.2, "00181200": "20180612", "00181201": "062211.000000", "00181210": "B31f", "00189305": 0.5,
    "00189306": 0.6, "00189307": 38.4, "00189309": 46.08, "00189310": 23.04, "00189311": 0.6, "00189324": 9.1,
    "00281052": -1024, "00281053": 1, "00281054": "HU", "00281055": ["WINDOW1", "WINDOW2"],
}  # fmt: skip
_MR = {
    "00180020": "SE", "00180021": ["SK", "SP"], "00180022": "PFP", "00180023": "2D", "00180024": "*se2d1",
    "00180025": "N", "00180080": 550, "00180081": 8.4, "00180083": 2, "00180084": 123.253, "00180085": "1H",
    "00180086": 1, "00180087": 3, "00180088": 5.5, "00180089": 205, "00180091": 1, "00180093": 100, "00180094": 80,
    "00180095": 220, "00181251": "TxRx_Head", "00181310": [0, 256, 205, 0], "00181312": "ROW", "00181315": "N",
}  # fmt: skip
_ULTRASOUND = _elements(
    {
        "00081140": [], "00182120": "", "00185010": "C5-1", "00185020": "Abd Gen", "00280006": 0, "00280014": 0,
        "00282110": "01", "00282112": 12, "00181063": 33.3, "00080068": "FOR PRESENTATION",
    }
)  # fmt: skip


def _private(group: str, creator: str, first: int, rows: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {f"{group}0010": {"vr": "LO", "Value": [creator]}}
    for position, (vr, value) in enumerate(rows):
        element = {"vr": vr, "Value": value if isinstance(value, list) else [value]}
        found[f"{group}10{first + position:02X}"] = element
    return found


_SIEMENS = (
    _private("0019", "SIEMENS CT VA0  COAD", 0x90, [("LO", "(1.0,0.0)"), ("DS", 0), ("DS", 180.5), ("SH", "STD")])
    | _private("0021", "SIEMENS MED", 0x10, [("LO", "v1"), ("US", [0, 3, 7]), ("DS", 0.75)])
    | _private("0029", "SIEMENS CSA HEADER", 0x08, [("CS", "IMAGE NUM 4"), ("LO", "20050723")])
    | {"00291010": {"vr": "OB", "BulkDataURI": "00291010"}, "00291020": {"vr": "OB", "BulkDataURI": "00291020"}}
    | {
        "00291140": {
            "vr": "SQ",
            "Value": [
                {
                    "00290010": {"vr": "LO", "Value": ["SIEMENS MEDCOM HEADER"]},
                    "00291041": {"vr": "CS", "Value": ["SOM 5 TPOS"]},
                    "00291043": {"vr": "LO", "Value": ["VA10A 971201"]},
                }
            ],
        }
    }
)
_GE = (
    _private("0009", "GEMS_IDEN_01", 0x01, [("LO", "CT_LIGHTSPEED"), ("SH", "CT01"), ("SH", "CT"), ("SH", "Rev CT")])
    | _private("0019", "GEMS_ACQU_01", 0x02, [("SL", 912), ("DS", 373.75), ("DS", 1.0166), ("SL", 0), ("DS", 955.8)])
    | _private("0021", "GEMS_RELA_01", 0x03, [("SS", 2), ("SH", "05"), ("UL", 1605775145), ("SS", 16)])
    | _private("0023", "GEMS_STDY_01", 0x70, [("FD", 1233142361.111079), ("SL", 1), ("SS", 0)])
    | _private("0025", "GEMS_SERS_01", 0x06, [("SS", 0), ("SL", 44), ("SL", 0), ("SL", 4), ("SH", "x")])
    | _private("0027", "GEMS_IMAG_01", 0x1C, [("SL", 150), ("SS", 1), ("SL", 24), ("SL", 129), ("SS", 1)])
    | _private("0043", "GEMS_PARM_01", 0x10, [("US", 400), ("US", 10431), ("SS", [14, 2, 3]), ("SS", [4, 4, 5])])
    | _private("0043", "GEMS_PARM_01", 0x14, [("SS", [107, 21, 4, 2, 20]), ("DS", [0.085, 1.102, 0.095])])
    | _private("0045", "GEMS_HELIOS_01", 0x01, [("SS", 64), ("FL", 0.625), ("SS", 1), ("FL", 40.0), ("FL", 0.984375)])
)
_PHILIPS = (
    _private("00E1", "ELSCINT1", 0x18, [("OB", []), ("CS", "YES"), ("LO", "Resp"), ("IS", 12)])
    | _private("01F1", "ELSCINT1", 0x26, [("DS", 0.914), ("DS", 97.65), ("CS", "NO"), ("SH", "64x0.625")])
    | _private("2001", "Philips Imaging DD 001", 0x01, [("FL", 0.0), ("IS", 1), ("FL", 0.0), ("CS", "T"), ("SL", 24)])
    | _private("2005", "Philips MR Imaging DD 001", 0x0D, [("FL", 2.31), ("FL", 1.0), ("SS", 3), ("SL", 0)])
)
_PRIVATE = (_SIEMENS, _GE, _PHILIPS)


def received_at(number: int) -> datetime:
    """When study ``number`` arrived."""
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
