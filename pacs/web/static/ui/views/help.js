// What to type into a modality or a viewer, documents, keys, version and licences.

import { address, json } from "../core/api.js";
import { config } from "../core/config.js";
import { h, replace } from "../core/dom.js";
import { t } from "../core/i18n.js";
import { copyButton, failureBox } from "../core/notice.js";
import { may } from "../core/session.js";
import texts from "../texts/help.js";
import { documents } from "./help_documents.js";

const KEYS = [["?", "help.keys.list"], ["/", "help.keys.search"], ["Tab", "help.keys.next"], ["Enter", "help.keys.open"], ["Esc", "help.keys.close"]];

export default {
  name: "help",
  title: () => t("help.title"),
  texts,
  styles: ["admin"],
  async mount(root, { signal }) {
    const about = h("div", {});
    const root_address = address("").replace(/\/$/, "");
    const host = location.hostname;
    replace(root, h("div.head", {}, h("h1", {}, t("help.title"))),
      h("div.grid.two", {},
        h("section.card", {}, h("h2", {}, t("help.modality")),
          config.dimsePort
            ? [h("p.soft", {}, t("help.modality.text")), pairs([
                ["help.ae", config.aeTitle], ["help.host", host], ["help.port", String(config.dimsePort)]])]
            : h("p.soft", {}, t("help.modality.off")),
          config.dimsePort && isLoopback(host) ? h("p.soft", {}, t("help.modality.local")) : null),
        h("section.card", {}, h("h2", {}, t("help.web")), h("p.soft", {}, t("help.web.text")), pairs([
          ["help.web.root", root_address],
          ["help.web.uri", `${root_address}/wado`],
          ["help.web.fhir", `${root_address}/fhir`],
          ["help.web.page", new URL("#/studies", document.baseURI).href],
          ...(config.viewer ? [["help.web.viewer", new URL(config.viewer.replace(/^\//, ""), document.baseURI).href]] : []),
        ])),
        h("section.card", {}, h("h2", {}, t("help.documents")), h("ul.links-list", {},
          document_link(address("docs"), "help.api", "help.api.text"),
          document_link(address("conformance"), "help.conformance", "help.conformance.text"),
          document_link(address("openapi.json"), "help.openapi", "help.openapi.text"),
          documents().map(({ href, title, text }) => h("li", {}, h("a", { href }, title), text && h("span.soft", {}, text)))),
          may("writer") && h("p", { style: { marginTop: "14px" } }, h("a", { href: "#/trash" }, t("help.trash")))),
        h("section.card", {}, h("h2", {}, t("help.keys")), h("table", {}, h("tbody", {}, KEYS.map(([key, text]) =>
          h("tr", {}, h("td", {}, h("kbd", {}, key)), h("td", {}, t(text))))))),
        h("section.card", {}, h("h2", {}, t("help.about")), about)));
    await look();

    async function look() {
      try {
        const found = await json("about", { signal });
        replace(about,
          h("dl.pairs", {}, h("dt", {}, t("help.version")), h("dd", {}, found.version), h("dt", {}, "Python"), h("dd", {}, found.python),
            h("dt", {}, t("help.licence")), h("dd", {}, found.licence)),
          h("details.as-table", { style: { marginTop: "10px" } }, h("summary", {}, t("help.packages", { n: found.packages.length })),
            h("div.scroll", { tabindex: "0", role: "region", "aria-label": t("help.packages", { n: found.packages.length }) }, h("table", {},
              h("thead", {}, h("tr", {}, ["package", "version", "licence"].map((each) => h("th", { scope: "col" }, t(`help.${each}`))))),
              h("tbody", {}, found.packages.map((each) => h("tr", {}, h("th", { scope: "row" }, each.name), h("td", {}, each.version), h("td.words", {}, each.licence || "–"))))))));
      } catch (error) {
        if (error.name !== "AbortError") replace(about, failureBox(error, look));
      }
    }
  },
};

function pairs(rows) {
  return h("dl.pairs.copied", {}, rows.map(([key, value]) => [h("dt", {}, t(key)), h("dd", {}, h("span.mono", {}, value), copyButton(value, t(key)))]));
}

function document_link(href, title, text) {
  return h("li", {}, h("a", { href, target: "_blank", rel: "noopener" }, t(title)), h("span.soft", {}, t(text)));
}

const isLoopback = (host) => host === "localhost" || host === "[::1]" || host.startsWith("127.");
