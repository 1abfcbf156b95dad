// Files may be dropped on any view: they are uploaded, and the upload is shown.

import { h, icon } from "./dom.js";
import { dropped } from "./files.js";
import { register, t } from "./i18n.js";
import { icons } from "./icons.js";
import { current, navigate, stylesheet } from "./router.js";
import { may } from "./session.js";
import { toast } from "./toast.js";
import { uploads } from "./upload.js";
import texts from "../texts/upload.js";

export function acceptDrops() {
  register(texts);
  stylesheet("drop");
  const veil = h("div.drop-veil", { hidden: true, "aria-hidden": "true" }, h("div", {}, icon(icons.upload, 48), h("p", {}, t("upload.drop"))));
  document.body.append(veil);
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files") && may("writer");
  window.addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    veil.hidden = false;
  });
  window.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault(); // else the browser would open the file in place of the page
    event.dataTransfer.dropEffect = "copy";
  });
  window.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) veil.hidden = true;
  });
  window.addEventListener("drop", (event) => {
    veil.hidden = true;
    if (!carriesFiles(event)) return;
    event.preventDefault();
    uploads.add(dropped(event.dataTransfer));
    if (current().path !== "/upload") navigate("/upload");
  });
  uploads.addEventListener("end", () => {
    if (current().path === "/upload") return;
    const { stored, same, replaced, refused, failed } = uploads.counts;
    toast(t("upload.ended", { stored: stored + same + replaced, refused: refused + failed }), {
      kind: refused + failed ? "error" : "success",
      action: { text: t("upload.show"), run: () => navigate("/upload") },
    });
  });
}
