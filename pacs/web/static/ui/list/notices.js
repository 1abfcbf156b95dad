// What stands in the list's place when there is nothing to list: how to begin, what to change, what went wrong.

import { config } from "../core/config.js";
import { h, icon } from "../core/dom.js";
import { icons } from "../core/icons.js";
import { t } from "../core/i18n.js";
import { may } from "../core/session.js";

// An archive without any study: how the first image gets here.
export function drawFirstSteps() {
  const host = location.hostname;
  const port = config.dimsePort;
  const facts = [[t("studies.first.ae"), config.aeTitle], [t("studies.first.host"), host], [t("studies.first.port"), port]];
  return h("div.notice", {},
    h("h2", {}, t("studies.first")),
    may("writer") && h("p", {}, h("a.button.primary", { href: "#/upload" }, icon(icons.upload), t("studies.first.upload"))),
    port ? [h("p", {}, t("studies.first.modality")),
      h("dl.facts", {}, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, h("code", {}, String(value)))))),
      h("p", {}, t("studies.first.command")),
      h("pre", { tabindex: "0" }, `storescu -aec ${config.aeTitle} ${host} ${port} image.dcm`)] : null);
}

export function drawNothing(onClear) {
  return h("div.notice", {}, h("h2", {}, t("studies.nothing")), h("p", {}, t("studies.nothing.text")),
    h("p", {}, h("button", { type: "button", onclick: onClear }, t("studies.clear"))));
}

// error: ApiError.
export function drawFailure(error, onRetry) {
  const text = error.status === 0 ? t("core.offline") : error.status === 403 ? t("studies.forbidden") : error.message || t("core.failed");
  return h("div.notice", { role: "alert" }, h("h2", {}, t("studies.failed")), h("p", {}, text),
    h("p", {}, h("button.primary", { type: "button", onclick: onRetry }, icon(icons.refresh), t("studies.retry"))));
}
