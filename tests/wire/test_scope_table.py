"""What somebody with a scope gets over HTTP: every GET operation there is, on what they see and on what they do not.

Hidden is as if it were not there: the answer is that about UIDs which nobody has ever used.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator

import pytest
import requests

from pacs.dicom.model import Role
from pacs.web.offered import all_operations
from pacs.web.operations import Operation
from tests import builders
from tests.server import Server
from tests.wire.clients import STOW_TYPE, multipart
from tests.wire.scoped_archive import SCOPES, UNKNOWN, Part, Scoped, filled, peers_of
from tests.wire.test_access import PASSWORD

# The table: every GET operation is about one thing, or lists things, or tells nothing of studies. Operations for
# administrators, who can widen their own scope, are outside it.
ONE = {
    *("searchForPatientStudies", "searchForStudySeries", "searchForStudyInstances", "searchForSeriesInstances"),
    *("searchForStudySeriesInstances", "retrieveFrames", "retrieveBulkdata"),
    *(f"retrieve{level}" for level in ("Study", "Series", "Instance")),
    *(
        f"retrieve{level}{what}"
        for level in ("Study", "Series", "Instance")
        for what in ("Metadata", "PixelData", "Bulkdata", "Rendered", "Thumbnail")
    ),
    *("retrieveFramesRendered", "retrieveFramesThumbnail", "wadoUri", "wadoUriAtRoot"),
    *("getWorklistItem", "getPerformedStep", "getCompleteness", "retrieveWorkitem", "getLabels"),
    *("fhirReadImagingStudy", "fhirReadPatient"),
}
LISTS = {
    *("searchForPatients", "searchForStudies", "searchForSeries", "searchForInstances", "searchForWorklistItems"),
    *("searchForPerformedSteps", "searchForWorkitems", "getChanges", "getAllLabels"),
    *("fhirSearchImagingStudy", "fhirSearchPatient"),
}
# Only what they began themselves; or numbers; or deletions; or nothing at all: tested one by one below.
ALONE = {
    *("listSends", "getSend", "listShares", "checkCommitment", "countWorklistItems", "listDeleted", "getRoot"),
    "openNotificationConnection",
}
NOTHING_OF_STUDIES = {
    *("getCapabilities", "getOpenApi", "getDocs", "getDocsFile", "isAlive", "isReady", "getSession", "listTokens"),
    *("getPageConfig", "getPageFile", "getConformance", "getAbout", "listPeers"),
    *("enterViewer", "getViewerFile", "getManualPage"),
    *("fhirMetadata", "fhirSearchEndpoint", "fhirReadEndpoint"),
}
OFFERED = {each.name: each for each in all_operations(with_delete=True, with_administration=True)}
CALLERS = sorted(SCOPES)


@pytest.fixture(scope="module")
def scoped(tmp_path_factory: pytest.TempPathFactory, backend: Callable[[], dict[str, str]]) -> Iterator[Scoped]:
    server = Server(tmp_path_factory.mktemp("scope"), backend())
    peers_of(server)
    with server:
        yield filled(server)


def get(scoped: Scoped, who: str, operation: Operation, part: Part) -> requests.Response:
    query = None
    if operation.path == "/wado":
        query = {"requestType": "WADO", "studyUID": part.study, "seriesUID": part.series, "objectUID": part.instance}
    path = part.filled(operation.path)
    url = (scoped.server.http_url if operation.is_outside else scoped.server.dicomweb_url) + path
    return requests.get(url, params=query, auth=(who, PASSWORD), timeout=60)


def told(answer: requests.Response, part: Part) -> tuple[int, str]:
    """Status and text, without the names that the request itself had."""
    text = answer.text
    for name in (*part.names(), part.fhir_patient):
        text = text.replace(name, "·")
    return answer.status_code, re.sub(r'"(instance|id)":"[^"]*"', "", text)


def test_every_operation_is_in_the_table() -> None:
    rows = [*ONE, *LISTS, *ALONE, *NOTHING_OF_STUDIES]
    in_table = sorted(each.name for each in OFFERED.values() if each.method == "GET" and each.role < Role.ADMIN)
    assert in_table == sorted(rows)
    assert {each.name for each in OFFERED.values() if "{study}" in each.path and each.method == "GET"} <= ONE


@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize("name", sorted(ONE))
def test_what_is_hidden_is_as_if_it_were_not_there(scoped: Scoped, who: str, name: str) -> None:
    operation = OFFERED[name]
    hidden, never = get(scoped, who, operation, scoped.hidden), get(scoped, who, operation, UNKNOWN)
    assert told(hidden, scoped.hidden) == told(never, UNKNOWN)
    assert hidden.status_code == (204 if name.startswith("searchFor") else 404), hidden.text
    visible, everything = get(scoped, who, operation, scoped.visible), get(scoped, "admin", operation, scoped.visible)
    assert (visible.status_code, everything.status_code) == (200, 200), visible.text
    assert visible.headers["Content-Type"].partition(";")[0] == everything.headers["Content-Type"].partition(";")[0]
    assert abs(len(visible.content) - len(everything.content)) < 300  # multipart boundaries, times
    # Else nothing would be hidden.
    assert get(scoped, "admin", operation, scoped.hidden).status_code == 200


@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize("name", sorted(LISTS))
def test_lists_show_what_is_visible_alone(scoped: Scoped, who: str, name: str) -> None:
    answer, everything = (get(scoped, caller, OFFERED[name], scoped.visible) for caller in (who, "admin"))
    assert answer.status_code == 200, answer.text
    names = {*scoped.hidden.names(), scoped.hidden.fhir_patient, "theirs"}
    assert [each for each in names if each in answer.text] == []
    shown = {*scoped.visible.names(), scoped.visible.fhir_patient, "mine"}
    assert any(each in answer.text for each in shown)
    assert any(each in everything.text for each in names)


@pytest.mark.parametrize("who", CALLERS)
def test_sends_commitments_counts_and_the_trash_are_those_of_what_one_sees(scoped: Scoped, who: str) -> None:
    for one in (scoped.hidden, scoped.visible):
        assert scoped.get("admin", f"/sends/{one.send}").status_code == 200
        assert scoped.get(who, f"/sends/{one.send}").status_code == 404
        assert scoped.get("admin", f"/commitment-requests/{one.transaction}").status_code == 200
        assert scoped.get(who, f"/commitment-requests/{one.transaction}").status_code == 404
    assert scoped.get(who, "/sends").json() == {"sends": []}
    assert scoped.get(who, "/mwlitems/count").json()["count"] == 1
    assert scoped.get("admin", "/mwlitems/count").json()["count"] == 2
    assert scoped.deleted in scoped.get("admin", "/trash").text
    trash = scoped.get(who, "/trash")
    assert trash.status_code == 200
    assert scoped.deleted not in trash.text
    assert scoped.deleted not in scoped.get(who, "/changes").text
    for url, is_all in ((scoped.server.http_url, who == "admin"), (scoped.server.http_url, False)):
        counts = requests.get(url + "/", auth=(who, PASSWORD), timeout=60).json()["counts"]
        assert bool(counts) is is_all
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    upgrade["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    assert scoped.get(who, "/subscribers/WATCHER", headers=upgrade).status_code == 403


def test_sending_asks_for_what_is_visible(scoped: Scoped) -> None:
    url = f"{scoped.server.dicomweb_url}/peers/NOBODY/send"
    for study, status in ((scoped.hidden.study, 404), (scoped.visible.study, 202)):
        for who in CALLERS:
            body = {"targets": [{"study": study}]}
            answer = requests.post(url, json=body, auth=(who, PASSWORD), timeout=60)
            assert answer.status_code == status, answer.text
            if status == 202:
                assert scoped.get(who, f"/sends/{answer.json()['id']}").json()["total"] == 1


@pytest.mark.parametrize(
    "path",
    ["", "/metadata", "/pixeldata", "/bulkdata", "/rendered", "/thumbnail", "/series", "/instances", "/completeness"],
)
def test_of_a_study_seen_in_part_the_rest_is_not_there(scoped: Scoped, path: str) -> None:
    url = f"/studies/{scoped.mixed_study}{path}"
    part, whole = scoped.get("by-modality", url), scoped.get("by-label", url)
    assert whole.status_code == 200
    if path == "/completeness":
        assert part.status_code == 404
        return
    assert part.status_code == 200, part.text
    everything = part.content + str(part.headers).encode()
    assert scoped.mixed_mr.encode() not in everything
    assert scoped.mixed_mr_instance.encode() not in everything
    if path != "/thumbnail":
        assert len(whole.content) > len(part.content)
    hidden = f"/studies/{scoped.mixed_study}/series/{scoped.mixed_mr}"
    assert scoped.get("by-modality", hidden).status_code == 404


def test_a_zip_holds_what_is_visible(scoped: Scoped) -> None:
    url = f"/studies/{scoped.mixed_study}"
    sizes = {}
    for who in ("admin", *CALLERS):
        answer = scoped.get(who, url, headers={"Accept": "application/zip"})
        assert answer.status_code == 200
        sizes[who] = len(
            [name for name in zipfile.ZipFile(io.BytesIO(answer.content)).namelist() if "DICOMDIR" not in name]
        )
    assert (sizes["admin"], sizes["by-label"], sizes["by-modality"]) == (3, 3, 1)


def test_numbers_and_modalities_of_a_study_tell_nothing_of_its_rest(scoped: Scoped) -> None:
    url = f"/studies?StudyInstanceUID={scoped.mixed_study}&includefield=BodyPartExamined,SOPClassesInStudy"
    url += ",NumberOfPatientRelatedInstances"
    seen = {}
    for who in ("by-label", "by-modality"):
        (row,) = scoped.get(who, url).json()
        seen[who] = [row.get(tag, {}).get("Value") for tag in ("00080061", "00201206", "00201208", "00180015")]
        assert "00201204" not in row
    assert seen == {"by-label": [["CT", "MR"], [2], [3], ["KNEE"]], "by-modality": [["CT"], [1], [1], None]}
    asked = f"/studies?StudyInstanceUID={scoped.mixed_study}&ModalitiesInStudy=MR"
    assert scoped.get("by-label", asked).status_code == 200
    assert scoped.get("by-modality", asked).status_code == 204
    for key, found in (("ModalitiesInStudy=C*", 200), ("NumberOfStudyRelatedInstances=3", 200), ("Modality=MR", 204)):
        # By totals nothing is found, or not found, that they would tell.
        asked = f"/studies?StudyInstanceUID={scoped.mixed_study}&{key}"
        assert scoped.get("by-modality", asked).status_code == found, key
    (row,) = scoped.get("by-modality", f"/series?StudyInstanceUID={scoped.mixed_study}").json()
    assert row["0020000E"]["Value"] == [scoped.mixed_ct]
    count = {
        who: scoped.get(who, "/studies?count=true&limit=1").headers["X-Total-Count"] for who in ("admin", *CALLERS)
    }
    assert count == {"admin": "3", "by-label": "2", "by-modality": "2"}
    (study,) = [
        each["resource"]
        for each in scoped.get("by-modality", "/fhir/ImagingStudy").json()["entry"]
        if each["resource"]["id"] == scoped.mixed_study
    ]
    assert (study["numberOfSeries"], study["numberOfInstances"]) == (1, 1)


def test_answers_are_kept_by_nobody_else(scoped: Scoped) -> None:
    url = f"/studies/{scoped.mixed_study}/metadata"
    answers = {who: scoped.get(who, url) for who in CALLERS}
    for answer in answers.values():
        assert answer.headers["Cache-Control"].startswith("private")
    tags = {who: answer.headers["ETag"] for who, answer in answers.items()}
    assert len(set(tags.values())) == 2
    other = scoped.get("by-modality", url, headers={"If-None-Match": tags["by-label"]})
    assert other.status_code == 200
    # A validator that was learnt elsewhere opens nothing.
    hidden = f"/studies/{scoped.hidden.study}/series/{scoped.hidden.series}/instances/{scoped.hidden.instance}"
    for path in ("", "/frames/1", "/rendered", "/thumbnail", "/metadata", "/bulkdata/7FE00010"):
        assert scoped.get("by-modality", hidden + path, headers={"If-None-Match": "*"}).status_code == 404, path


@pytest.mark.parametrize("who", CALLERS)
def test_who_writes_changes_what_they_see_and_stores_what_they_have(scoped: Scoped, who: str) -> None:
    root, auth = scoped.server.dicomweb_url, (who, PASSWORD)
    study = scoped.hidden.study
    for method, path in (
        *(("DELETE", f"/studies/{study}"), ("DELETE", f"/studies/{study}/series/{scoped.hidden.series}")),
        *(("PUT", f"/studies/{study}/labels/mine"), ("DELETE", f"/studies/{study}/labels/theirs")),
        *(("DELETE", f"/mwlitems/{study}/S1"), ("POST", f"/mwlitems/{study}/S1/status/CANCELED")),
        ("POST", f"/trash/{scoped.deleted}/restore"),
    ):
        answer = requests.request(method, root + path, auth=auth, timeout=60)
        assert answer.status_code == 404, f"{method} {path}: {answer.status_code} {answer.text}"
    for method, path in (("POST", ""), ("PUT", "/state"), ("POST", "/cancelrequest")):
        body = [{"00741000": {"vr": "CS", "Value": ["IN PROGRESS"]}, "00081195": {"vr": "UI", "Value": ["1.2.3"]}}]
        url = f"{root}/workitems/{scoped.hidden.workitem}{path}"
        headers = {"Content-Type": "application/dicom+json"}
        answer = requests.request(method, url, json=body, headers=headers, auth=auth, timeout=60)
        assert answer.status_code == 404, f"{path}: {answer.status_code} {answer.text}"
    file = multipart([builders.ct(Modality="MR", PatientID="OF-MR")])
    stored = requests.post(f"{root}/studies", data=file, headers={"Content-Type": STOW_TYPE}, auth=auth, timeout=60)
    assert stored.status_code == 200
    assert scoped.get("admin", f"/studies/{study}").status_code == 200


def test_of_a_study_seen_in_part_that_part_is_deleted(scoped: Scoped) -> None:
    root, study = scoped.server.dicomweb_url, builders.new_uid()
    for modality in ("CT", "MR"):
        file = multipart([builders.ct(study, Modality=modality, PatientID="BOTH")])
        headers = {"Content-Type": STOW_TYPE}
        assert requests.post(f"{root}/studies", data=file, headers=headers, auth=("admin", PASSWORD), timeout=60).ok
    url = f"{root}/studies/{study}"
    assert requests.delete(url, auth=("by-modality", PASSWORD), timeout=60).status_code == 204
    assert requests.delete(url, auth=("by-modality", PASSWORD), timeout=60).status_code == 404
    (left,) = scoped.get("admin", f"/studies/{study}/series").json()
    assert left["00080060"]["Value"] == ["MR"]
