// What can be done with studies, series and instances wherever they are shown. target: {study, series, sop, title}.

import { address, request } from "../core/api.js";
import { config } from "../core/config.js";
import { confirm } from "../core/dialog.js";
import { h } from "../core/dom.js";
import { t } from "../core/i18n.js";
import { may } from "../core/session.js";
import { toast, toastError } from "../core/toast.js";

const AT_ONCE = 4;
const BETWEEN_DOWNLOADS_MS = 600;

export const mayDelete = () => config.canDelete && may("writer");

export function pathOf({ study, series, sop }) {
  return `studies/${study}${series ? `/series/${series}` : ""}${sop ? `/instances/${sop}` : ""}`;
}

export const zipOf = (target) => address(pathOf(target), { accept: "application/zip" });

export const quickViewer = ({ study, series }) => `#/view/${study}${series ? `?series=${series}` : ""}`;

// null where no full viewer is installed.
export const fullViewer = ({ study }) => (config.viewer ? `${config.viewer}viewer?StudyInstanceUIDs=${study}` : null);

// One ZIP file each, one after the other: browsers drop what is asked for all at once.
export async function download(targets) {
  for (const [at, target] of targets.entries()) {
    if (at) await new Promise((resolve) => setTimeout(resolve, BETWEEN_DOWNLOADS_MS));
    const link = h("a", { href: zipOf(target), download: "" });
    document.body.append(link);
    link.click();
    link.remove();
  }
}

export async function send(targets) {
  try {
    const { sendDialog } = await import("../core/send.js");
    await sendDialog(targets.map(({ study, series, sop }) => ({ study, series, sop })));
  } catch (error) {
    toastError(error);
  }
}

export async function share({ study, title }) {
  try {
    const { shareDialog } = await import("../core/share.js");
    await shareDialog(study, title);
  } catch (error) {
    toastError(error);
  }
}

// Delete and offer to take it back. Returns whether anything was deleted. Views hear of both by "archive" on the window.
export async function remove(targets) {
  if (targets.length > 1 && !(await confirm(t("study.delete.title", { n: targets.length }), t("study.delete.text"), t("study.delete")))) return false;
  const { done, failures } = await each(targets, (target) => request(pathOf(target), { method: "DELETE" }));
  failures.forEach(toastError);
  if (!done.length) return false;
  announce(done);
  const text = done.length === 1 ? t("study.deleted.it", { title: done[0].title }) : t("study.deleted.many", { n: done.length });
  toast(text, { kind: "success", action: { text: t("study.undo"), run: () => restore(done) } });
  return true;
}

export async function restore(targets) {
  const conflicts = [];
  const { done, failures } = await each(targets, async (target) => {
    const answer = await request(`${pathOf(target)}/undelete`, { method: "POST" });
    conflicts.push(...((await answer.json()).conflicts ?? []));
  });
  failures.forEach(toastError);
  if (!done.length) return false;
  announce(done);
  if (conflicts.length) toast(t("study.restored.conflicts", { n: conflicts.length }), { kind: "error" });
  else toast(t("study.restored"), { kind: "success" });
  return true;
}

function announce(targets) {
  window.dispatchEvent(new CustomEvent("archive", { detail: targets }));
}

// Run for all, a few at a time; {done: targets, failures: errors}.
export async function each(targets, run) {
  const waiting = [...targets];
  const done = [];
  const failures = [];
  const work = async () => {
    for (let target = waiting.shift(); target; target = waiting.shift()) {
      try {
        await run(target);
        done.push(target);
      } catch (error) {
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return { done, failures };
}
