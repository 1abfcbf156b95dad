// Whom the archive knows: where they are, what they may do, and whether they answer.

import { json } from "../core/api.js";
import { h, icon, replace } from "../core/dom.js";
import { bytes, number } from "../core/format.js";
import { t } from "../core/i18n.js";
import { icons } from "../core/icons.js";
import { bind } from "../core/keys.js";
import { failureBox, inWords } from "../core/notice.js";
import texts from "../texts/peers.js";

const AT_ONCE = 4;

export default {
  name: "peers",
  title: () => t("peers.title"),
  texts,
  styles: ["admin"],
  async mount(root, { signal }) {
    const place = h("div", { "aria-busy": "true" });
    const all = h("button", { type: "button", hidden: true, onclick: () => askAll() }, icon(icons.refresh, 16), t("peers.echo.all"));
    replace(root, h("div.head", {}, h("h1", {}, t("peers.title")), h("a.button", { href: "#/sends" }, icon(icons.send, 16), t("peers.sends")), all), h("p.soft", {}, t("peers.lead")), place);
    let rows = [];
    bind({ e: ["peers.echo.all", () => askAll()] }, signal);
    await look();

    async function look() {
      try {
        const peers = await json("peers", { signal });
        rows = peers.map(rowOf);
        all.hidden = !rows.some((row) => row.ask);
        replace(place, peers.length
          ? h("div.card.flush", {}, h("table.folding", {},
            h("thead", {}, h("tr", {}, ["ae", "address", "may", "sending", "answer"].map((each) => h("th", { scope: "col" }, t(`peers.${each}`))))),
            h("tbody", {}, rows.map((row) => row.element))))
          : h("div.card.nothing", {}, t("peers.none")));
      } catch (error) {
        if (error.name !== "AbortError") replace(place, failureBox(error, look));
      } finally {
        place.removeAttribute("aria-busy");
      }
    }

    async function askAll() {
      const waiting = rows.filter((row) => row.ask);
      all.disabled = true;
      const ask = async () => {
        while (waiting.length && !signal.aborted) await waiting.shift().ask();
      };
      await Promise.all(Array.from({ length: AT_ONCE }, ask));
      all.disabled = false;
    }

    function rowOf(peer) {
      const answer = h("div", { "aria-live": "polite" });
      const canAsk = Boolean(peer.host && peer.port) && !peer.is_broken;
      const button = canAsk && h("button.row-button", { type: "button", "aria-label": t("peers.echo.one", { ae: peer.ae_title }), onclick: () => ask() }, t("peers.echo"));
      async function ask() {
        button.disabled = true;
        replace(answer, h("span.soft", {}, t("peers.asking")));
        try {
          const found = await json(`peers/${encodeURIComponent(peer.ae_title)}/echo`, { method: "POST", signal });
          replace(answer, found.is_there
            ? h("span.chip.good", {}, icon(icons.check, 14), t("peers.there", { ms: new Intl.NumberFormat(document.documentElement.lang).format(found.ms) }))
            : [h("span.chip.bad", {}, icon(icons.alert, 14), t("peers.away")), h("div.words", {}, reason(found.reason)), h("div.soft", {}, t("peers.away.hint"))]);
        } catch (error) {
          if (error.name !== "AbortError") replace(answer, h("span.failure", { role: "alert" }, inWords(error)));
        } finally {
          button.disabled = false;
        }
      }
      const element = h("tr", {},
        h("th", { scope: "row", dataset: { name: t("peers.ae") } }, h("span", {}, h("strong.mono", {}, peer.ae_title), " ",
          peer.is_broken && h("span.chip.bad", {}, t("peers.broken")))),
        h("td", { dataset: { name: t("peers.address") } }, h("span", {}, canAsk ? h("span.mono", {}, `${peer.host}:${peer.port}`) : h("span.soft", {}, t("peers.calls")), " ",
          peer.tls && h("span.chip.good", {}, "TLS"))),
        h("td", { dataset: { name: t("peers.may") } }, h("div", {}, may(peer))),
        h("td", { dataset: { name: t("peers.sending") } }, peer.host ? h("div", {}, sending(peer)) : null),
        h("td", { dataset: { name: t("peers.answer") } }, canAsk ? h("div", {}, button, answer) : null));
      return { element, ask: canAsk ? ask : null };
    }
  },
};

function reason(text) {
  return text ? text[0].toUpperCase() + text.slice(1) : "";
}

// What it may do here, in lines.
function may(peer) {
  if (peer.is_broken) return t("peers.broken.text");
  const service = (name) => {
    const words = t(`peers.service.${name}`);
    return words.startsWith("peers.service.") ? name : words;
  };
  const services = peer.services === null ? t("peers.everything") : peer.services.length ? peer.services.map(service).join(t("peers.comma")) : t("peers.nothing");
  return [
    h("div", {}, services),
    peer.addresses.length ? h("div.soft", {}, t("peers.from", { addresses: peer.addresses.join(t("peers.comma")) })) : null,
    peer.max_associations ? h("div.soft", {}, t("peers.most", { n: peer.max_associations })) : null,
  ];
}

function sending(peer) {
  return [
    h("div", {}, t("peers.connections", { n: peer.connections })),
    peer.bytes_per_s ? h("div.soft", {}, t("peers.pace", { pace: bytes(peer.bytes_per_s) })) : null,
    peer.user ? h("div.soft", {}, t("peers.user", { user: peer.user })) : null,
    peer.transfer_syntaxes.length ? h("div.soft", { title: peer.transfer_syntaxes.join("\n") }, t("peers.syntaxes", { n: number(peer.transfer_syntaxes.length) })) : null,
  ];
}
