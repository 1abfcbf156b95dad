// The bar on top: views, language, colours, who is logged in.

import { h, icon, replace } from "./dom.js";
import { icons } from "./icons.js";
import { LANGUAGES, chooseLanguage, language, t } from "./i18n.js";
import { chooseTheme, theme } from "./theme.js";
import { current } from "./router.js";
import { logout, may, session } from "./session.js";

export function drawTop(routes) {
  const top = document.getElementById("top");
  const draw = () => {
    const { path } = current();
    const links = routes
      .filter((route) => route.nav && may(route.role))
      .map((route) => h("a", { href: `#${route.path}`, "aria-current": path.startsWith(route.path) ? "page" : null }, t(route.nav)));
    const menu = h("nav.links", { id: "nav", "aria-label": t("core.views") }, links);
    const toggle = h("button.icon.menu", {
      type: "button",
      "aria-label": t("core.menu"),
      "aria-expanded": "false",
      "aria-controls": "nav",
      onclick: () => {
        const isOpen = menu.classList.toggle("open");
        toggle.setAttribute("aria-expanded", String(isOpen));
      },
    }, icon(icons.menu));
    replace(top, toggle, h("a.brand", { href: "#/studies" }, h("img", { src: "ui/icon.svg", alt: "", width: "24", height: "24" }), t("core.product")), menu, tools());
  };
  window.addEventListener("route", draw);
  window.addEventListener("session", draw);
  draw();
}

function tools() {
  const languages = h("select", { "aria-label": t("core.language"), onchange: (event) => chooseLanguage(event.target.value) },
    Object.entries(LANGUAGES).map(([code, name]) => h("option", { value: code, selected: code === language() }, name)));
  const themes = h("select", { "aria-label": t("core.theme"), onchange: (event) => chooseTheme(event.target.value) },
    ["auto", "light", "dark"].map((name) => h("option", { value: name, selected: name === theme() }, t(`core.theme.${name}`))));
  const who = session.via === "anonymous"
    ? session.ways?.length ? h("a.button", { href: "#/login" }, t("core.login")) : null
    : [session.via === "share" ? h("span.who", {}, icon(icons.link, 16), t("core.shared"))
        : h("a.who", { href: "#/me", title: t(`core.role.${session.role}`) }, icon(icons.person, 16), session.name),
       h("button", { type: "button", onclick: logout }, t("core.logout"))];
  return h("div.tools", {}, languages, themes, who);
}
