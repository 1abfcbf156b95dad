// What was sent to peers lately, how far it is, and what was refused.

import { json, request } from "../core/api.js";
import { h, replace } from "../core/dom.js";
import { moment } from "../core/format.js";
import { t } from "../core/i18n.js";
import { KINDS, showSend } from "../core/send.js";
import { note } from "../core/router.js";
import { toastError } from "../core/toast.js";
import texts from "../texts/send.js";

const BUSY_MS = 1000, IDLE_MS = 5000;

export default {
  name: "sends",
  title: () => t("send.list.title"),
  texts,
  styles: ["send"],

  async mount(root, { query, signal }) {
    const place = h("div", { "aria-live": "off" });
    replace(root, h("div.head", {}, h("h1", {}, t("send.list.title"))), place);
    let drawn = "", wake = null;
    const look = async () => {
      const { sends } = await json("sends", { signal });
      const key = JSON.stringify(sends);
      if (key !== drawn) draw(sends);
      drawn = key;
      return sends.some((each) => !each.ended && each.state !== "given-up");
    };
    const draw = (sends) => {
      const focus = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
      replace(place, sends.length ? h("div.card", {}, table(sends, act)) : h("p.soft", {}, t("send.list.empty")));
      if (focus) place.querySelector(`[data-key="${CSS.escape(focus)}"]`)?.focus();
    };
    const act = async (what) => {
      try {
        await what();
      } catch (error) {
        toastError(error);
      }
      wake?.();
    };
    let isBusy = await look();
    if (query.get("id")) open(query.get("id"));
    (async () => {
      while (!signal.aborted) {
        await new Promise((resolve) => {
          wake = resolve;
          setTimeout(resolve, isBusy ? BUSY_MS : IDLE_MS);
        });
        if (signal.aborted) return;
        try {
          isBusy = await look();
        } catch {
          isBusy = false; // the server is away, or this view is left
        }
      }
    })();
  },
};

async function open(id) {
  note({ id });
  await showSend(id);
  note({});
}

function table(sends, act) {
  const titles = ["peer", "state", "progress", "began", "by", "actions"].map((name) => h("th", { scope: "col" }, t(`send.column.${name}`)));
  return h("table", {}, h("thead", {}, h("tr", {}, titles)), h("tbody", {}, sends.map((each) => row(each, act))));
}

function row(each, act) {
  const button = (key, name, run) => h("button", { type: "button", dataset: { key: `${key}-${each.id}` }, onclick: () => act(run), "aria-label": name }, t(key));
  const change = (method, path) => () => request(`sends/${each.id}${path}`, { method });
  const isOver = Boolean(each.ended);
  return h("tr", {},
    h("td.peer", {}, each.peer),
    h("td", {}, h(`span.chip${KINDS[each.state]}`, {}, t(`send.state.${each.state}`))),
    h("td.how", {}, h("span", {}, t("send.of", each)),
      each.state === "sending" && h("progress", { max: each.total, value: each.sent + each.failures, "aria-label": t("send.progress") }),
      each.failures > 0 && h("span.failure", {}, ` · ${t("send.failures", { n: each.failures })}`),
      each.error && h("small", {}, each.error)),
    h("td", {}, moment(each.began)),
    h("td", {}, each.by),
    h("td", {}, h("div.actions", {},
      button("send.details.short", t("send.details", each), () => open(each.id)),
      each.state === "waiting" && button("send.now", null, change("POST", "/retry")),
      ["failed", "given-up"].includes(each.state) && button("send.retry", null, change("POST", "/retry")),
      !isOver && button("send.cancel", null, change("DELETE", "")))));
}
