"""The registry of services."""

from __future__ import annotations

import pytest

from pacs.dimse.service import Service, Services

COMMITMENT = "1.2.840.10008.1.20.1"
MPPS = "1.2.840.10008.3.1.2.3.3"


def test_roles_are_those_of_the_services():
    services = Services(
        [Service("commitment", frozenset({COMMITMENT}), {}, may_use=True), Service("mpps", frozenset({MPPS}), {})]
    )
    assert services.roles == {COMMITMENT: True, MPPS: False}


def test_two_services_of_one_sop_class_are_a_mistake():
    with pytest.raises(ValueError, match=f"SOP class {MPPS} is served by one and by other"):
        Services([Service("one", frozenset({MPPS}), {}), Service("other", frozenset({COMMITMENT, MPPS}), {})])
