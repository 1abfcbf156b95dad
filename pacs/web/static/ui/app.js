// Starts the page: who is asking, in what language and colours, and which view the address names.

import { load as loadConfig } from "./core/config.js";
import { refresh as refreshSession } from "./core/session.js";
import { register, setLanguage, storedLanguage, t } from "./core/i18n.js";
import { applyTheme } from "./core/theme.js";
import { start as startRouter } from "./core/router.js";
import { drawTop } from "./core/top.js";
import { bindShortcuts } from "./core/keys.js";
import { acceptDrops } from "./core/drop.js";
import { routes } from "./routes.js";
import core from "./texts/core.js";

applyTheme();
register(core);
setLanguage(storedLanguage());
const skip = document.querySelector("[data-skip]");
skip.textContent = t("core.skip");
skip.addEventListener("click", (event) => {
  event.preventDefault(); // the address is the router's
  document.getElementById("main").focus();
});
await loadConfig(); // first: it says where the rest is asked for
await refreshSession();
drawTop(routes);
bindShortcuts();
acceptDrops();
startRouter(routes, document.getElementById("main"));
