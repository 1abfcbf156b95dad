// What is asked of the list: as it stands in the address, and as QIDO-RS is asked.

export const SORT = "-StudyDate";
// Columns of the table, and the order in which studies came in.
export const SORTS = ["PatientName", "PatientID", "StudyDate", "ModalitiesInStudy", "StudyDescription", "AccessionNumber", "NumberOfStudyRelatedInstances", "received"];
export const FILTERS = ["name", "id", "accession", "description", "from", "to", "modality", "label"];
export const MODALITIES = ["CT", "MR", "US", "CR", "DX", "MG", "XA", "NM", "PT", "SR", "OT"];

const DESCRIPTION = "00081030";

// {q, sort, name, …}: all are texts, "" where nothing is asked.
export function asked(query) {
  const sort = query.get("sort") || SORT;
  const found = { q: query.get("q") || "", sort: SORTS.includes(sort.replace(/^-/, "")) ? sort : SORT };
  for (const name of FILTERS) found[name] = query.get(name) || "";
  return found;
}

export const noted = (state) => ({ ...state, sort: state.sort === SORT ? "" : state.sort });

export const filtersUsed = (state) => FILTERS.filter((name) => state[name]).length;

export const isAnythingAsked = (state) => Boolean(state.q.trim()) || filtersUsed(state) > 0;

export function qido(state) {
  return {
    includefield: DESCRIPTION,
    orderby: state.sort,
    search: state.q.trim(),
    PatientName: pattern(state.name, "*"),
    PatientID: pattern(state.id),
    AccessionNumber: pattern(state.accession),
    StudyDescription: pattern(state.description, "*"),
    StudyDate: range(state.from, state.to),
    ModalitiesInStudy: words(state.modality),
    labels: words(state.label),
  };
}

// What begins so, or has it somewhere in it; as it is where it has wildcards of its own.
function pattern(text, before = "") {
  const asked = text.trim();
  return !asked || /[*?]/.test(asked) ? asked : `${before}${asked}*`;
}

const words = (text) => text.split(/[\s,]+/).filter(Boolean).join(",");

function range(from, to) {
  const [begin, end] = [from, to].map((day) => day.replaceAll("-", ""));
  return begin || end ? `${begin}-${end}` : "";
}
