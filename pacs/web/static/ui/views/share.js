// A link that somebody shared: what it shows is opened, or it is said why not.

import { json } from "../core/api.js";
import { h, replace } from "../core/dom.js";
import { t } from "../core/i18n.js";
import { navigate } from "../core/router.js";
import { refresh } from "../core/session.js";
import texts from "../texts/share.js";

export default {
  name: "share",
  title: () => t("core.shared"),
  texts,
  styles: ["share"],
  async mount(root, { params, signal }) {
    const open = async () => {
      replace(root, h("p.soft", { role: "status" }, t("share.opening")));
      try {
        const { study } = await json("session", { method: "POST", json: { share: params.token }, signal });
        await refresh();
        // In place of the link: going back would only lead here again.
        navigate(`/studies/${study}`, {}, { replace: true });
      } catch (error) {
        if (error.name === "AbortError") return;
        failed(root, error, open);
      }
    };
    await open();
  },
};

function failed(root, error, again) {
  const isOver = error.status === 410;
  const text = isOver ? t("share.over.text") : error.status === 0 ? t("core.offline") : error.message || t("core.failed");
  replace(root, h("div.card", { role: "alert" }, h("h1", {}, isOver ? t("share.over") : t("core.failed")), h("p", {}, text),
    h("p.line", {}, isOver ? null : h("button.primary", { type: "button", onclick: again }, t("share.retry")),
      h("a.button", { href: "#/login" }, t("share.login")))));
}
