"""Body Part Examined (0018,0015) and laterality as SNOMED CT, after PS3.16 Annex L."""

from __future__ import annotations

from typing import Any

from pacs.dicom.dictionary import first_value
from pacs.dicom.model import Attributes
from pacs.services.fhir_values import coding, text

_SNOMED = "http://snomed.info/sct"
_LATERALITIES = {"L": ("7771000", "Left"), "R": ("24028007", "Right"), "B": ("51440002", "Right and left")}
_TABLE = """
ABDOMEN 818981001 Abdomen
ABDOMENPELVIS 416949008 Abdomen and Pelvis
ANKLE 70258002 Ankle joint
AORTA 15825003 Aorta
BLADDER 89837001 Bladder
BRAIN 12738006 Brain
BREAST 76752008 Breast
CALCANEUS 80144004 Calcaneus
CHEST 51185008 Chest
CHESTABDOMEN 416550000 Chest and Abdomen
CHESTABDPELVIS 416775004 Chest, Abdomen and Pelvis
CLAVICLE 51299004 Clavicle
COCCYX 64688005 Coccyx
COLON 71854001 Colon
CSPINE 122494005 Cervical spine
EAR 117590005 Ear
ELBOW 16953009 Elbow joint
ESOPHAGUS 32849002 Esophagus
EYE 81745001 Eye
FEMUR 71341001 Femur
FINGER 7569003 Finger
FOOT 56459004 Foot
FOREARM 14975008 Forearm
HAND 85562004 Hand
HEAD 69536005 Head
HEADNECK 774007 Head and Neck
HEART 80891009 Heart
HIP 24136001 Hip joint
HUMERUS 85050009 Humerus
IAC 361078006 Internal Auditory Canal
JAW 661005 Jaw region
KIDNEY 64033007 Kidney
KNEE 72696002 Knee
LEG 61685007 Lower limb
LIVER 10200004 Liver
LSPINE 122496007 Lumbar spine
LUNG 39607008 Lung
MANDIBLE 91609006 Mandible
MAXILLA 70925003 Maxilla
NECK 45048000 Neck
NOSE 45206002 Nose
ORBIT 363654007 Orbit
PANCREAS 15776009 Pancreas
PATELLA 64234005 Patella
PELVIS 816092008 Pelvis
PROSTATE 41216001 Prostate
RIB 113197003 Rib
SCAPULA 79601000 Scapula
SELLA 42575006 Sella turcica
SHOULDER 16982005 Shoulder
SKULL 89546000 Skull
SPINE 421060004 Spine
SPLEEN 78961009 Spleen
SSPINE 54735007 Sacrum
STERNUM 56873002 Sternum
STOMACH 69695003 Stomach
THIGH 68367000 Thigh
THYROID 69748006 Thyroid
TMJOINT 53620006 Temporomandibular joint
TOE 29707007 Toe
TSPINE 122495006 Thoracic spine
UTERUS 35039007 Uterus
WHOLEBODY 38266002 Entire body
WRIST 8205005 Wrist
"""
_SITES = {name: (code, meaning) for name, code, meaning in (row.split(maxsplit=2) for row in _TABLE.split("\n") if row)}


def body_site(attributes: Attributes) -> dict[str, Any] | None:
    """A Coding: of Anatomic Region Sequence (0008,2218), else of Body Part Examined, by name alone at need."""
    region = first_value(attributes, "00082218")
    found = coding(region) if isinstance(region, dict) else {}
    if found:
        return found
    part = text(attributes, "00180015")
    if not part:
        return None
    known = _SITES.get(part.upper().replace(" ", ""))
    return {"system": _SNOMED, "code": known[0], "display": known[1]} if known else {"display": part}


def laterality(attributes: Attributes) -> dict[str, Any] | None:
    """A Coding of Laterality (0020,0060)."""
    known = _LATERALITIES.get(text(attributes, "00200060").upper())
    return {"system": _SNOMED, "code": known[0], "display": known[1]} if known else None
