// Texts in English and Traditional Chinese. A view registers its own: {"en": {"list.title": "…"}, "zh-Hant": {…}}.

export const LANGUAGES = { en: "English", "zh-Hant": "繁體中文" };

const texts = { en: {}, "zh-Hant": {} };
let current = "en";
// Costly to make, and asked for in every row of a list; the language stays until the page is loaded anew.
const made = new Map();

function formatOf(Kind) {
  if (!made.has(Kind)) made.set(Kind, new Kind(current));
  return made.get(Kind);
}

export function register(more) {
  for (const [language, words] of Object.entries(more)) Object.assign(texts[language], words);
}

export function language() {
  return current;
}

export function storedLanguage() {
  const stored = localStorage.getItem("pacs.language");
  if (stored in LANGUAGES) return stored;
  return (navigator.languages || [navigator.language]).some((name) => /^zh/i.test(name)) ? "zh-Hant" : "en";
}

export function setLanguage(name) {
  current = name in LANGUAGES ? name : "en";
  made.clear();
  document.documentElement.lang = current;
}

export function chooseLanguage(name) {
  localStorage.setItem("pacs.language", name);
  location.reload();
}

// The text of a key, with {name} filled in. A key with ".one" and ".other" is chosen by n.
export function t(key, values = {}) {
  let found = texts[current][key] ?? texts.en[key];
  if (found === undefined && "n" in values) {
    const form = formatOf(Intl.PluralRules).select(values.n);
    found = texts[current][`${key}.${form}`] ?? texts[current][`${key}.other`] ?? texts.en[`${key}.${form}`];
  }
  if (found === undefined) return key;
  return found.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    if (value === undefined) return whole;
    return typeof value === "number" ? formatOf(Intl.NumberFormat).format(value) : value;
  });
}
