// Documents for people, that the help view lists: {href, title, text}, in the language of the page.
// The documents themselves are in English.

import { address } from "../core/api.js";
import { t } from "../core/i18n.js";

export const NAMES = [
  "start", "modality", "studies", "viewer", "ohif", "searching", "sending", "security", "operating", "operator-page",
  "monitoring", "audit", "cluster", "migrating", "worklist",
  "commitment", "dimse", "follow-up", "ups", "fhir", "architecture", "contributing",
];

export const documents = () => NAMES.map((name) => ({ href: address(`manual/${name}.md`), title: t(`help.doc.${name}`), text: "" }));
