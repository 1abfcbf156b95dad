// What was dropped or chosen, as a list of files: folders are gone through, ZIP files are looked into.

import { members } from "./zip.js";

// {name, size, open: async () => Blob}, or {name, size, reason} for what cannot be read. Entries have to be taken from a
// drop before anything is awaited, so they are.
export function dropped(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry?.() || item.getAsFile()).filter(Boolean);
  return each(entries);
}

export function chosen(files) {
  return each([...files]);
}

async function* each(entries) {
  for (const entry of entries) {
    if (entry instanceof File) yield* looked(entry, entry.webkitRelativePath || entry.name);
    else yield* entryOf(entry);
  }
}

async function* entryOf(entry) {
  const name = entry.fullPath.replace(/^\//, "");
  try {
    if (entry.isFile) {
      yield* looked(await new Promise((resolve, reject) => entry.file(resolve, reject)), name);
      return;
    }
  } catch {
    yield { name, size: 0, reason: "unreadable" };
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    let some;
    try {
      // A hundred at a time, until there are none.
      some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    } catch {
      yield { name, size: 0, reason: "unreadable" };
      return;
    }
    if (!some.length) return;
    for (const child of some) yield* entryOf(child);
  }
}

async function* looked(file, name) {
  if (!/\.zip$/i.test(file.name)) {
    yield { name, size: file.size, open: async () => file };
    return;
  }
  try {
    for (const member of await members(file)) yield { ...member, name: `${name}:${member.name}` };
  } catch (error) {
    yield { name, size: file.size, reason: error.message.startsWith("zip.") ? error.message : "unreadable" };
  }
}

// Whether a file that begins like this may be DICOM: a preamble, or a data set without one. head: 132 bytes.
export function mayBeDicom(head) {
  return hasMagic(head) || ["2,0", "8,0", "0,8"].includes(`${head[0]},${head[1]}`);
}

export function hasMagic(head) {
  const at = (place) => String.fromCharCode(...head.subarray(place, place + 4)) === "DICM";
  return at(128) || at(0);
}
