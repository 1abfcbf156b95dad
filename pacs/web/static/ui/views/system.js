// How the archive is: what it holds, how it grows, who serves it, its log and its settings.

import { json } from "../core/api.js";
import { h, icon, replace } from "../core/dom.js";
import { bytes, moment, number } from "../core/format.js";
import { language, t } from "../core/i18n.js";
import { icons } from "../core/icons.js";
import { failureBox } from "../core/notice.js";
import { plot } from "../core/plot.js";
import { refreshing } from "../core/refresh.js";
import { href, note } from "../core/router.js";
import texts from "../texts/system.js";
import { mountLog } from "./system_log.js";
import { mountSettings } from "./system_settings.js";

const EVERY_S = 15;
const TABS = { overview: mountOverview, log: mountLog, settings: mountSettings };

export default {
  name: "system",
  title: () => t("system.title"),
  texts,
  styles: ["admin"],
  async mount(root, context) {
    const tab = context.query.get("tab") in TABS ? context.query.get("tab") : "overview";
    const body = h("div", {});
    replace(root,
      h("div.head", {}, h("h1", {}, t("system.title"))),
      h("nav.tabs", { "aria-label": t("system.title") }, Object.keys(TABS).map((each) =>
        h("a", { href: href("/system", { tab: each === "overview" ? "" : each }), "aria-current": each === tab ? "page" : null }, t(`system.tab.${each}`)))),
      body);
    await TABS[tab](body, context);
  },
};

async function mountOverview(root, { query, signal }) {
  let by = query.get("by") === "day" ? "day" : "hour";
  let isRead = null;
  const health = h("div", {});
  const totals = h("div", {});
  const disk = h("section.card", {});
  const modalities = h("section.card.flush", {});
  const processes = h("section.card.flush", {});
  const software = h("section.card", {});
  const stored = h("div", {});
  const used = h("div", {});
  const span = h("select", { "aria-label": t("system.history.span"), onchange: (event) => choose(event.target.value) },
    ["hour", "day"].map((each) => h("option", { value: each, selected: each === by }, t(`system.history.${each}`))));
  replace(root, health, totals,
    h("section.card", { "aria-labelledby": "system-history" },
      h("div.head", {}, h("h2", { id: "system-history", style: { flex: "1" } }, t("system.history")), h("div", {}, span)),
      h("div.grid.two", {}, stored, used)),
    h("div.grid.two", { style: { marginTop: "16px" } }, modalities, disk, processes, software));
  const looking = refreshing(look, EVERY_S, signal);
  await looking.now();

  function choose(wanted) {
    by = wanted;
    isRead = null;
    note({ by: by === "day" ? "day" : "" });
    looking.now();
  }

  async function look() {
    try {
      const [storage, system, history] = await Promise.all([
        json("storage", { signal }), json("system", { signal }), json("storage/history", { query: { by }, signal })]);
      drawHealth(health, system.problems);
      drawTotals(totals, storage.totals);
      drawDisk(disk, storage);
      drawModalities(modalities, storage);
      drawProcesses(processes, system);
      drawSoftware(software, system);
      const state = JSON.stringify(history);
      // Whoever reads the table, or moves along the plot, is left in peace while nothing has changed.
      if (state !== isRead && !(isRead && root.querySelector("figure.plot details[open], svg.plot:focus"))) {
        drawHistory(stored, used, history, signal);
        isRead = state;
      }
    } catch (error) {
      if (error.name !== "AbortError") replace(health, failureBox(error, () => looking.now()));
    }
  }
}

function drawHealth(place, problems) {
  replace(place, problems.length
    ? h("div.notice.bad", { role: "alert" }, icon(icons.alert), h("ul", {}, problems.map((each) => h("li", {}, each))))
    : h("div.notice.good", {}, icon(icons.check), h("p", {}, t("system.healthy"))));
}

function drawTotals(place, totals) {
  const shown = { patients: number, studies: number, series: number, instances: number, bytes };
  replace(place, h("div.tiles", {}, Object.entries(shown).map(([name, format]) =>
    h("dl.tile", {}, h("dt", {}, t(`system.${name}`)), h("dd", {}, format(totals[name]))))));
}

function drawDisk(place, { disk, totals }) {
  if (disk.total === null) {
    replace(place, h("h2", {}, t("system.disk")), h("p.soft", {}, t("system.disk.unknown", { folder: disk.folder })));
    return;
  }
  const share = (value) => `${Math.max(0, Math.min(100, (100 * value) / disk.total)).toFixed(2)}%`;
  const low = disk.free < disk.reserve * 2;
  const left = Math.max(0, disk.free - disk.reserve);
  const words = t("system.disk.words", { used: bytes(disk.used), total: bytes(disk.total), free: bytes(disk.free) });
  replace(place, h("h2", {}, t("system.disk")),
    h(`div.disk${low ? ".low" : ""}`, { role: "img", "aria-label": words },
      h("span.used", { style: { width: share(disk.used) } }), h("span.reserve", { style: { width: share(disk.reserve) } })),
    h("dl.pairs", {},
      ...pair("system.disk.used", bytes(disk.used)), ...pair("system.disk.free", bytes(disk.free)),
      ...pair("system.disk.reserve", bytes(disk.reserve)), ...pair("system.disk.left", bytes(left)),
      ...pair("system.disk.archive", bytes(totals.bytes)), ...pair("system.disk.folder", h("span.mono", {}, disk.folder))),
    low && h("p.failure", {}, t(left ? "system.disk.low" : "system.disk.full")));
}

const pair = (key, value) => [h("dt", {}, t(key)), h("dd", {}, value)];

function drawModalities(place, { modalities, counted }) {
  const most = Math.max(1, ...(modalities || []).map((each) => each.bytes));
  replace(place, h("h2", {}, t("system.modalities")),
    !modalities ? h("p.soft", {}, t("system.modalities.counting"))
    : !modalities.length ? h("p.soft", {}, t("system.modalities.none"))
    : [h("table.folding", {},
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("system.modality")),
          ["studies", "instances", "bytes"].map((each) => h("th.number", { scope: "col" }, t(`system.${each}`))), h("th", {}, ""))),
        h("tbody", {}, modalities.map((each) => h("tr", {},
          h("th", { scope: "row", dataset: { name: t("system.modality") } }, each.modality || t("system.modality.none")),
          h("td.number", { dataset: { name: t("system.studies") } }, number(each.studies)),
          h("td.number", { dataset: { name: t("system.instances") } }, number(each.instances)),
          h("td.number.nowrap", { dataset: { name: t("system.bytes") } }, bytes(each.bytes)),
          h("td.share-cell", {}, h("span.share", { style: { width: `${(100 * each.bytes) / most}%` } })))))),
       h("p.soft", { style: { margin: "8px 10px 0" } }, t("system.modalities.counted", { at: moment(counted) }))]);
}

function drawProcesses(place, { processes }) {
  const machines = new Set(processes.map((each) => each.host)).size;
  replace(place, h("h2", {}, t("system.processes", { n: processes.length }), h("span.soft", {}, ` · ${t("system.machines", { n: machines })}`)),
    h("table.folding", {},
      h("thead", {}, h("tr", {}, ["host", "process", "memory", "version", "started"].map((each) => h("th", { scope: "col" }, t(`system.${each}`))))),
      h("tbody", {}, processes.map((each) => h("tr", {},
        h("th.words", { scope: "row", dataset: { name: t("system.host") } }, each.host),
        h("td", { dataset: { name: t("system.process") } }, String(each.pid)),
        h("td.nowrap", { dataset: { name: t("system.memory") } }, each.memory_bytes === null ? "–" : bytes(each.memory_bytes)),
        h("td", { dataset: { name: t("system.version") } }, each.version),
        h("td", { dataset: { name: t("system.started") } }, moment(each.started)))))));
}

function drawSoftware(place, system) {
  replace(place, h("h2", {}, t("system.software")), h("dl.pairs", {},
    ...pair("system.version", system.version), ...pair("system.ae", h("span.mono", {}, system.aeTitle)),
    ...pair("system.index", system.index), ...pair("system.store", h("span.mono", {}, system.store)),
    ...pair("system.answered", system.host)));
}

function drawHistory(storedPlace, usedPlace, { by, buckets }, signal) {
  const points = buckets.map((each) => ({ ...each, time: new Date(each.at) }));
  const format = (options) => new Intl.DateTimeFormat(language(), options);
  const long = by === "hour" ? format({ dateStyle: "medium", timeStyle: "short" }) : format({ dateStyle: "full", timeZone: "UTC" });
  const day = format({ month: "short", day: "numeric" });
  const clock = format({ hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const month = format({ month: "short", timeZone: "UTC" });
  const ticks = {
    hour: ({ time }) => (time.getHours() === 0 ? day.format(time) : time.getHours() % 6 === 0 ? clock.format(time) : ""),
    day: ({ time }) => (time.getUTCDate() === 1 ? month.format(time) : ""),
  };
  const sum = (name) => points.reduce((total, each) => total + each[name], 0);
  const last = points[points.length - 1];
  const common = { points, when: ({ time }) => long.format(time), tick: ticks[by], signal };
  replace(storedPlace, plot({
    ...common,
    title: t("system.plot.stored"),
    description: t(`system.plot.stored.${by}`, { stored: sum("stored"), deleted: sum("deleted") }),
    series: [
      { name: t("system.plot.added"), kind: "bars", value: (each) => each.stored + each.replaced },
      { name: t("system.plot.deleted"), kind: "bars", down: true, value: (each) => each.deleted },
    ],
    format: number,
  }));
  replace(usedPlace, plot({
    ...common,
    title: t("system.plot.used"),
    description: t("system.plot.used.text", { bytes: bytes(last.bytes) }),
    series: [{ name: t("system.plot.size"), kind: "area", value: (each) => each.bytes }],
    format: bytes,
  }));
}
