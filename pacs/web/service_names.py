"""Which service a route is of, in metrics, traces and the audit trail: a few names, whatever clients ask for."""

from __future__ import annotations

from collections.abc import Iterable

from pacs.web.operations import Operation

OTHER = "other"
# By the end of the path, below studies.
_PARTS = {
    "metadata": "WADO-RS metadata",
    "rendered": "WADO-RS rendered",
    "thumbnail": "WADO-RS rendered",
    "pixeldata": "WADO-RS bulk data",
    "bulkdata": "WADO-RS bulk data",
    "{path}": "WADO-RS bulk data",
    "{frames}": "WADO-RS frames",
}


class ServiceNames:
    """api_path: of the DICOMweb root, "/dicom-web"."""

    def __init__(self, offered: Iterable[Operation], api_path: str) -> None:
        self._names: dict[tuple[str, str], str] = {}
        for operation in offered:
            path = operation.path if operation.is_outside else f"{api_path}{operation.path}"
            self._names[operation.method, path] = _name(operation)

    def find(self, method: str, route: str) -> str:
        """route: as the router has it, with names in braces; "" for none. ``OTHER`` for what nobody offers."""
        path = route.rstrip("/") if len(route) > 1 else route
        return self._names.get(("GET" if method == "HEAD" else method, path), OTHER)


def _name(operation: Operation) -> str:
    if operation.group == "WADO-RS":
        return _PARTS.get(operation.path.rpartition("/")[2], "WADO-RS")
    return operation.group
