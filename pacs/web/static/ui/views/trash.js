// What was deleted and is still there to be had back.

import { json } from "../core/api.js";
import { date, personName } from "../core/dicom.js";
import { h, icon, replace } from "../core/dom.js";
import { bytes, moment } from "../core/format.js";
import { t } from "../core/i18n.js";
import { icons } from "../core/icons.js";
import { failureBox, inWords } from "../core/notice.js";
import { toast } from "../core/toast.js";
import texts from "../texts/trash.js";

const PAGE = 50;

export default {
  name: "trash",
  title: () => t("trash.title"),
  texts,
  styles: ["admin"],
  async mount(root, { signal }) {
    const place = h("div", {});
    const body = h("tbody", {});
    const more = h("div.more", { hidden: true }, h("button", { type: "button", onclick: () => look() }, t("trash.more")));
    let next = "";
    replace(root, h("div.head", {}, h("h1", {}, t("trash.title"))), h("p.soft", {}, t("trash.lead")), place);
    await look();

    async function look() {
      try {
        const page = await json("trash", { query: { after: next, limit: PAGE }, signal });
        if (!body.isConnected) {
          replace(place, h("div.card.flush", {}, h("table.folding", {},
            h("thead", {}, h("tr", {}, ["patient", "study", "what", "deleted"].map((each) => h("th", { scope: "col" }, t(`trash.${each}`))), h("th", {}, ""))),
            body), more));
        }
        body.append(...page.deleted.map(row));
        next = page.next || "";
        more.hidden = !next;
        drawEmpty();
      } catch (error) {
        if (error.name !== "AbortError") replace(place, failureBox(error, look));
      }
    }

    function drawEmpty() {
      if (!body.childElementCount && !next) replace(place, h("div.card.nothing", {}, icon(icons.trash, 32), t("trash.none")));
    }

    function row(each) {
      const name = typeof each.patientName === "string" ? personName({ Alphabetic: each.patientName }) : personName(each.patientName);
      const level = each.sop ? "instance" : each.series ? "series" : "study";
      const path = `studies/${each.study}${each.series ? `/series/${each.series}` : ""}${each.sop ? `/instances/${each.sop}` : ""}/undelete`;
      const answer = h("div", { "aria-live": "polite" });
      const button = h("button", { type: "button", "aria-label": t("trash.restore.one", { name: name || each.study }), onclick: restore }, icon(icons.undo, 16), t("trash.restore"));
      const element = h("tr", {},
        h("th", { scope: "row", dataset: { name: t("trash.patient") } }, h("div", {}, h("div", {}, name || t("trash.unknown")), h("div.soft", {}, each.patientId || ""))),
        h("td", { dataset: { name: t("trash.study") } }, h("div", {}, h("div", {}, [date(each.studyDate), each.studyDescription].filter(Boolean).join(" · ") || h("span.mono", {}, each.study)),
          h("div.soft", {}, [each.modalities].flat().filter(Boolean).join(", ")))),
        h("td", { dataset: { name: t("trash.what") } }, h("div", {}, h("div", {}, t(`trash.level.${level}`)),
          h("div.soft", {}, `${t("trash.instances", { n: each.instances })} · ${bytes(each.bytes)}`))),
        h("td", { dataset: { name: t("trash.deleted") } }, h("div", {}, moment(each.at), each.by ? h("div.soft", {}, t("trash.by", { name: each.by })) : null)),
        h("td", {}, h("div.actions", {}, button), answer));
      return element;

      async function restore() {
        button.disabled = true;
        try {
          const found = await json(path, { method: "POST", query: { at: each.at }, signal });
          const conflicts = found?.conflicts?.length || 0;
          toast(t("trash.restored", { n: found?.restored ?? each.instances }), {
            kind: "success",
            action: { text: t("trash.open"), run: () => (location.hash = `#/studies/${each.study}`) },
          });
          if (conflicts) replace(answer, h("p.failure", {}, t("trash.conflicts", { n: conflicts })));
          else {
            const neighbour = element.nextElementSibling || element.previousElementSibling;
            element.remove();
            (neighbour?.querySelector("button") || root.querySelector("h1"))?.focus();
            drawEmpty();
          }
        } catch (error) {
          if (error.name !== "AbortError") replace(answer, h("p.failure", { role: "alert" }, inWords(error)));
        } finally {
          button.disabled = false;
        }
      }
    }
  },
};
