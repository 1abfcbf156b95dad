"""Which peers the settings name, and the files of TLS that they are spoken to with."""

from __future__ import annotations

from pacs.dimse.peers import Peers
from pacs.dimse.tls import Files
from pacs.dimse_settings import DimseSettings


def known_peers(settings: DimseSettings) -> Peers:
    """The peers of DIMSE_AE_CONFIG."""
    return Peers(settings.dimse_ae_config, tls_files(settings))


def tls_files(settings: DimseSettings) -> Files:
    """What DIMSE_TLS_CA, DIMSE_TLS_CERTIFICATE and DIMSE_TLS_KEY name."""
    return Files(settings.dimse_tls_ca, settings.dimse_tls_certificate, settings.dimse_tls_key)
