"""Jobs that tell others over HTTP what has happened: signed POSTs of JSON.

``X-Pacs-Signature: sha256=<hex>`` is the HMAC of ``<X-Pacs-Timestamp>.<body>`` under WEBHOOK_SECRET.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Iterator, Mapping, Sequence

import orjson

from pacs.index.work import Job
from pacs.observers.arrivals import payload
from pacs.observers.http import Http
from pacs.services.following import WEBHOOK
from pacs.services.jobs import Ended, Handler

log = logging.getLogger(__name__)
_GONE = 410


class Webhook:
    """secret: empty, for unsigned ones."""

    def __init__(self, http: Http, secret: str = "") -> None:
        self._http = http
        self._secret = secret.encode()

    @property
    def handler(self) -> Handler:
        return Handler(WEBHOOK, self.run, batch=20, threads=2)

    def run(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        for job in jobs:
            found = payload(job)
            yield self._end(job, found["to"], orjson.dumps(found["body"]))

    def post(self, address: str, body: bytes, delivery: str) -> tuple[int, bool]:
        """(status, whether the same would be refused again). delivery: the same one whenever this is repeated."""
        answer = self._http.send("POST", address, body, self._headers(body, delivery))
        return answer.status, answer.is_final

    def _end(self, job: Job, address: str, body: bytes) -> Ended:
        status, is_final = self.post(address, body, job.job_id)
        if 200 <= status < 300:
            log.info("told to=%s key=%s", job.group, job.key)
            return Ended(job)
        return Ended(job, f"the webhook answered {status}", is_final=is_final or status == _GONE)

    def _headers(self, body: bytes, delivery: str) -> Mapping[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": "raccoon-pacs", "X-Pacs-Delivery": delivery}
        if self._secret:
            timestamp = str(int(time.time()))
            signed = hmac.new(self._secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
            headers |= {"X-Pacs-Timestamp": timestamp, "X-Pacs-Signature": f"sha256={signed}"}
        return headers
