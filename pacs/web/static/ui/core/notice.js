// What went wrong, in words and with what to do, in the place where the answer would have been.

import { h, icon } from "./dom.js";
import { icons } from "./icons.js";
import { register, t } from "./i18n.js";

register({
  en: {
    "notice.again": "Try again",
    "notice.401": "Log in to see this.",
    "notice.403": "You may not see or do this here. Ask an administrator.",
    "notice.404": "The server does not offer this, or it is gone.",
    "notice.503": "The server cannot do this now. Try again in a moment.",
    "notice.other": "The server could not do this.",
    "notice.said": "It said: {detail}",
    "notice.loading": "Loading…",
    "notice.copy": "Copy",
    "notice.copied": "Copied",
  },
  "zh-Hant": {
    "notice.again": "再試一次",
    "notice.401": "請先登入才能檢視。",
    "notice.403": "您沒有權限檢視或執行此項目，請洽管理者。",
    "notice.404": "伺服器未提供此功能，或該項目已不存在。",
    "notice.503": "伺服器目前無法處理，請稍後再試。",
    "notice.other": "伺服器無法完成此操作。",
    "notice.said": "伺服器訊息：{detail}",
    "notice.loading": "載入中…",
    "notice.copy": "複製",
    "notice.copied": "已複製",
  },
});

// What an ApiError means to whoever reads it.
export function inWords(error) {
  if (error.status === 0) return t("core.offline");
  if (error.status === undefined) return error.message || t("core.failed");
  const known = ["401", "403", "404", "503"].includes(String(error.status));
  const words = t(known ? `notice.${error.status}` : "notice.other");
  return error.message ? `${words} ${t("notice.said", { detail: error.message })}` : words;
}

// A box that says so. again: what its button does, null for none.
export function failureBox(error, again = null) {
  return h("div.notice.bad", { role: "alert" }, icon(icons.alert), h("p", {}, inWords(error)),
    again && h("button", { type: "button", onclick: again }, icon(icons.refresh, 16), t("notice.again")));
}

// A button that copies a text. The page may be served without TLS, where there is no clipboard to write to.
export function copyButton(text, label) {
  const words = h("span", {}, t("notice.copy"));
  return h("button.copy", {
    type: "button",
    "aria-label": `${t("notice.copy")}: ${label}`,
    onclick: async (event) => {
      const button = event.currentTarget;
      const done = await copy(text);
      words.textContent = done ? t("notice.copied") : text;
      button.classList.toggle("done", done);
      setTimeout(() => {
        words.textContent = t("notice.copy");
        button.classList.remove("done");
      }, 1600);
    },
  }, words);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = h("textarea", { style: { position: "fixed", opacity: "0" } });
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}
