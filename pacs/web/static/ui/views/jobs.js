// What the archive still has to do: what was given up first, then what runs and what waits.

import { json } from "../core/api.js";
import { confirm } from "../core/dialog.js";
import { h, icon, replace } from "../core/dom.js";
import { moment, number } from "../core/format.js";
import { t } from "../core/i18n.js";
import { icons } from "../core/icons.js";
import { bind } from "../core/keys.js";
import { failureBox, inWords } from "../core/notice.js";
import { refreshing } from "../core/refresh.js";
import { note } from "../core/router.js";
import { toast } from "../core/toast.js";
import texts from "../texts/jobs.js";

const PAGE = 50;
const EVERY_S = 5;
const ORDER = ["dead", "running", "waiting"];
const CHIPS = { dead: "bad", running: "good", waiting: "" };

export default {
  name: "jobs",
  title: () => t("jobs.title"),
  texts,
  styles: ["admin"],
  async mount(root, { query, signal }) {
    const chosen = new Set();
    let state = ORDER.includes(query.get("state")) ? query.get("state") : "";
    let kind = query.get("kind") || "";
    let shown = PAGE;
    let jobs = [];

    const problem = h("div", {});
    const counts = h("div.tiles", {});
    const byKind = h("div", {});
    const list = h("div", {});
    const bar = h("div.bar", {});
    const kinds = h("select", { id: "jobs-kind", onchange: (event) => filter(state, event.target.value) });
    const states = h("select", { id: "jobs-state", onchange: (event) => filter(event.target.value, kind) },
      ["", ...ORDER].map((each) => h("option", { value: each, selected: each === state }, t(`jobs.state.${each || "all"}`))));
    const automatic = h("input", { type: "checkbox", checked: true, onchange: (event) => looking.pause(!event.target.checked) });
    replace(root,
      h("div.head", {}, h("h1", {}, t("jobs.title")),
        h("label.inline", {}, automatic, t("jobs.automatic", { seconds: EVERY_S })),
        h("button", { type: "button", onclick: () => looking.now() }, icon(icons.refresh, 16), t("jobs.refresh"))),
      problem, counts,
      h("details.as-table.card", {}, h("summary", {}, t("jobs.counts")), byKind),
      h("div.filters", {},
        h("div", {}, h("label", { for: "jobs-state" }, t("jobs.state")), states),
        h("div", {}, h("label", { for: "jobs-kind" }, t("jobs.kind")), kinds)),
      h("section.card.flush", { "aria-label": t("jobs.title") }, bar, list));

    const looking = refreshing(look, EVERY_S, signal);
    bind({ r: ["jobs.refresh", () => looking.now()] }, signal);
    await looking.now();

    function filter(newState, newKind) {
      state = newState;
      kind = newKind;
      shown = PAGE;
      chosen.clear();
      states.value = state;
      note({ state, kind });
      looking.now();
    }

    async function look() {
      try {
        const found = await read(state ? [state] : ORDER, kind, shown, signal);
        jobs = found.jobs;
        for (const id of [...chosen]) if (!jobs.some((job) => job.id === id)) chosen.delete(id);
        replace(problem);
        drawCounts(found.counts);
        drawList(found.more);
      } catch (error) {
        if (error.name !== "AbortError") replace(problem, failureBox(error, () => looking.now()));
      }
    }

    function drawCounts(found) {
      const sum = (wanted) => found.filter((each) => each.state === wanted).reduce((total, each) => total + each.jobs, 0);
      replace(counts, ORDER.map((each) => h("dl.tile", {}, h("dt", {}, t(`jobs.state.${each}`)), h("dd", {}, number(sum(each))))));
      drawKinds(found);
      const named = [...new Set([...found.map((each) => each.kind), ...(kind ? [kind] : [])])].sort();
      if (document.activeElement !== kinds) {
        replace(kinds, h("option", { value: "" }, t("jobs.kind.all")),
          named.map((each) => h("option", { value: each, selected: each === kind }, kindName(each))));
      }
    }

    function drawKinds(found) {
      const of = (name, wanted) => found.find((each) => each.kind === name && each.state === wanted)?.jobs || 0;
      const focused = document.activeElement?.dataset?.focus;
      replace(byKind, h("table", {},
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("jobs.kind")), ORDER.map((each) => h("th.number", { scope: "col" }, t(`jobs.state.${each}`))))),
        h("tbody", {}, [...new Set(found.map((each) => each.kind))].sort().map((name) => h("tr", {},
          h("th", { scope: "row" }, kindName(name)),
          ORDER.map((each) => h("td.number", {}, of(name, each)
            ? h("button.row-button", { type: "button", dataset: { focus: `count-${name}-${each}` }, "aria-label": `${kindName(name)}, ${t(`jobs.state.${each}`)}: ${number(of(name, each))}`, onclick: () => filter(each, name) }, number(of(name, each)))
            : h("span.soft", {}, "0"))))))));
      if (focused?.startsWith("count-")) root.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
    }

    function drawList(more) {
      const focused = document.activeElement?.dataset?.focus;
      drawBar();
      replace(list, jobs.length
        ? h("table.folding", {},
          h("thead", {}, h("tr", {}, h("th.check", {}, h("span", { hidden: true }, t("jobs.select"))),
            ["state", "kind", "about", "attempts", "due"].map((each) => h("th", { scope: "col" }, t(`jobs.${each}`))), h("th", {}, ""))),
          h("tbody", {}, jobs.map(row)))
        : h("p.nothing", {}, icon(icons.check, 32), t(state || kind ? "jobs.none.filtered" : "jobs.none")),
      more && h("div.more", {}, h("button", { type: "button", dataset: { focus: "more" }, onclick: () => { shown += PAGE; looking.now(); } }, t("jobs.more"))));
      if (focused) root.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
    }

    function row(job) {
      const open = job.state !== "running";
      return h("tr", {},
        h("td.check", {}, open && h("input", {
          type: "checkbox", checked: chosen.has(job.id), dataset: { focus: `check-${job.id}` },
          "aria-label": t("jobs.select.one", { about: job.about }),
          onchange: (event) => { chosen[event.target.checked ? "add" : "delete"](job.id); drawBar(); },
        })),
        h("td", { dataset: { name: t("jobs.state") } }, h(`span.chip${CHIPS[job.state] ? `.${CHIPS[job.state]}` : ""}`, {}, t(`jobs.state.${job.state}`))),
        h("td", { dataset: { name: t("jobs.kind") } }, kindName(job.kind)),
        h("td", { dataset: { name: t("jobs.about") } }, h("div", {}, h("div.mono", {}, job.about),
          job.group && job.group !== job.about ? h("div.soft.mono", {}, job.group) : null,
          job.error ? h("div.failure.words", {}, job.error) : null)),
        h("td.number", { dataset: { name: t("jobs.attempts") } }, number(job.attempts)),
        h("td", { dataset: { name: t("jobs.due") } }, job.state === "dead" ? t("jobs.since", { at: moment(job.created) }) : moment(job.due)),
        h("td", {}, open && h("div.actions", {},
          h("button", { type: "button", dataset: { focus: `retry-${job.id}` }, "aria-label": t("jobs.retry.one", { about: job.about }), onclick: () => act("retry", [job.id]) }, t("jobs.retry")),
          h("button", { type: "button", dataset: { focus: `discard-${job.id}` }, "aria-label": t("jobs.discard.one", { about: job.about }), onclick: () => act("discard", [job.id]) }, t("jobs.discard")))));
    }

    function drawBar() {
      const open = jobs.filter((job) => job.state !== "running");
      const every = h("input", {
        type: "checkbox", checked: open.length > 0 && chosen.size === open.length, disabled: !open.length, dataset: { focus: "every" },
        onchange: (event) => {
          chosen.clear();
          if (event.target.checked) open.forEach((job) => chosen.add(job.id));
          root.querySelectorAll("td.check input").forEach((box) => (box.checked = event.target.checked));
          drawBar();
        },
      });
      const wasEvery = document.activeElement?.dataset?.focus === "every";
      replace(bar, h("label.inline", {}, every, chosen.size ? t("jobs.selected", { n: chosen.size }) : t("jobs.select.all")), h("span.fill", {}),
        chosen.size > 0 && [
          h("button", { type: "button", dataset: { focus: "retry" }, onclick: () => act("retry", [...chosen]) }, icon(icons.refresh, 16), t("jobs.retry")),
          h("button", { type: "button", dataset: { focus: "discard" }, onclick: () => act("discard", [...chosen]) }, icon(icons.trash, 16), t("jobs.discard")),
        ]);
      if (wasEvery) every.focus();
    }

    async function act(what, ids) {
      if (what === "discard" && !(await confirm(t("jobs.discard.title"), t("jobs.discard.text", { n: ids.length }), t("jobs.discard")))) return;
      try {
        let done = 0;
        for (let at = 0; at < ids.length; at += 1000) done += (await json(`jobs/${what}`, { method: "POST", json: { jobs: ids.slice(at, at + 1000) } })).jobs;
        const missed = ids.length - done;
        toast([t(`jobs.${what}.done`, { n: done }), missed ? t("jobs.missed", { n: missed }) : ""].join(" ").trim(), { kind: missed ? "" : "success" });
        chosen.clear();
      } catch (error) {
        toast(inWords(error), { kind: "error" });
      }
      await looking.now();
    }
  },
};

// The first so many jobs of these states, one state after the other, and how many there are of each kind.
async function read(states, kind, wanted, signal) {
  const jobs = [];
  let counts = [];
  for (const [at, state] of states.entries()) {
    let after = "";
    while (after !== null && (jobs.length <= wanted || at === 0)) {
      const page = await json("jobs", { query: { state, kind, after, limit: Math.min(1000, wanted + 1) }, signal });
      counts = page.counts;
      jobs.push(...page.jobs);
      after = page.next;
      if (jobs.length > wanted) break;
    }
    if (jobs.length > wanted) break;
  }
  return { jobs: jobs.slice(0, wanted), more: jobs.length > wanted, counts };
}

function kindName(kind) {
  const name = t(`jobs.kind.${kind}`);
  return name.startsWith("jobs.kind.") ? kind : name;
}
