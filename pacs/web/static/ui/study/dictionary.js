// Names of attributes and UIDs (PS3.6), and of what vendors have told of theirs. Fetched when a view asks first.

let known = null;
let vendors = null;

const fetched = (name) => fetch(`ui/${name}.json`).then((response) => {
  if (!response.ok) throw new Error(`ui/${name}.json: ${response.status}`);
  return response.json();
});

// The dictionary; with private attributes when withPrivate.
export async function dictionary({ withPrivate = false } = {}) {
  known ??= fetched("dictionary").catch((error) => {
    known = null;
    throw error;
  });
  if (withPrivate) vendors ??= fetched("private").catch(() => (vendors = null)); // their names are an extra
  return new Dictionary(await known, withPrivate ? await vendors : null);
}

class Dictionary {
  constructor(known, vendors) {
    this.known = known;
    this.vendors = vendors ?? {};
  }

  // {name, keyword}; creator: of the block that a private tag lies in. Empty where nobody has told.
  attribute(tag, creator = "") {
    if (isPrivate(tag)) {
      if (/^....00[1-9A-F]./.test(tag)) return { name: "Private Creator", keyword: "" };
      return { name: this.vendors[creator]?.[`${tag.slice(0, 4)}XX${tag.slice(6)}`]?.[1] ?? "", keyword: "" };
    }
    const found = this.known.attributes[tag] ?? this.known.repeating[`${tag.slice(0, 2)}xx${tag.slice(4)}`];
    if (found) return { name: found[1], keyword: found[2] };
    return { name: tag.endsWith("0000") ? "Group Length" : "", keyword: "" };
  }

  uid(value) {
    return this.known.uids[value] ?? "";
  }
}

export const isPrivate = (tag) => parseInt(tag[3], 16) % 2 === 1;
