// The members of a ZIP file that the page was given (PKWARE APPNOTE 4.3), read by pieces: the file is never held whole.

const END = 0x06054b50, END_64 = 0x06064b50, LOCATOR_64 = 0x07064b50, ENTRY = 0x02014b50, LOCAL = 0x04034b50;
const END_BYTES = 22, LONGEST_COMMENT = 0xffff, MOST_DIRECTORY_BYTES = 256 * 2 ** 20;
const STORED = 0, DEFLATED = 8;

// [{name, size, open: async () => Blob}], folders left out. Throws Error with one of the reasons "zip.broken" and
// "zip.large"; open throws "zip.broken", "zip.encrypted" and "zip.method". No member becomes larger than its entry says.
export async function members(file) {
  const { at, length } = await directory(file);
  if (length > MOST_DIRECTORY_BYTES) throw new Error("zip.large");
  const view = await read(file, at, length);
  const found = [];
  for (let place = 0; place + 46 <= length && view.getUint32(place, true) === ENTRY; ) {
    const entry = entryAt(view, place);
    if (!entry.name.endsWith("/")) found.push({ name: entry.name, size: entry.size, open: () => open(file, entry) });
    place = entry.next;
  }
  return found;
}

async function directory(file) {
  const tail = Math.min(file.size, END_BYTES + LONGEST_COMMENT + 20);
  const start = file.size - tail;
  const view = await read(file, start, tail);
  for (let place = tail - END_BYTES; place >= 0; place -= 1) {
    if (view.getUint32(place, true) !== END) continue;
    if (place >= 20 && view.getUint32(place - 20, true) === LOCATOR_64) return directory64(file, view, place - 20);
    return within(file, view.getUint32(place + 16, true), view.getUint32(place + 12, true));
  }
  throw new Error("zip.broken");
}

async function directory64(file, tail, place) {
  const view = await read(file, number64(tail, place + 8), 56);
  if (view.getUint32(0, true) !== END_64) throw new Error("zip.broken");
  return within(file, number64(view, 48), number64(view, 40));
}

function within(file, at, length) {
  if (at + length > file.size) throw new Error("zip.broken");
  return { at, length };
}

function entryAt(view, place) {
  const [nameLength, extraLength, commentLength] = [28, 30, 32].map((offset) => view.getUint16(place + offset, true));
  const flags = view.getUint16(place + 8, true);
  const entry = {
    flags,
    method: view.getUint16(place + 10, true),
    packed: view.getUint32(place + 20, true),
    size: view.getUint32(place + 24, true),
    at: view.getUint32(place + 42, true),
    next: place + 46 + nameLength + extraLength + commentLength,
  };
  if (entry.next > view.byteLength) throw new Error("zip.broken");
  // Without the flag it is code page 437; the letters that matter are the same.
  entry.name = new TextDecoder(flags & 0x800 ? "utf-8" : "latin1").decode(new Uint8Array(view.buffer, place + 46, nameLength));
  // ZIP64: what does not fit into 32 bits stands in an extra field, in this order.
  for (let extra = place + 46 + nameLength; extra + 4 <= place + 46 + nameLength + extraLength; extra += 4 + view.getUint16(extra + 2, true)) {
    if (view.getUint16(extra, true) !== 1) continue;
    let from = extra + 4;
    for (const name of ["size", "packed", "at"]) {
      if (entry[name] !== 0xffffffff) continue;
      entry[name] = number64(view, from);
      from += 8;
    }
  }
  return entry;
}

async function open(file, entry) {
  if (entry.flags & 1) throw new Error("zip.encrypted");
  const head = await read(file, entry.at, 30);
  if (head.getUint32(0, true) !== LOCAL) throw new Error("zip.broken");
  const start = entry.at + 30 + head.getUint16(26, true) + head.getUint16(28, true);
  const packed = file.slice(start, start + entry.packed);
  if (entry.method === STORED) return packed;
  if (entry.method !== DEFLATED) throw new Error("zip.method");
  let seen = 0;
  const limited = new TransformStream({
    transform(piece, controller) {
      seen += piece.byteLength;
      if (seen > entry.size) throw new Error("zip.broken");
      controller.enqueue(piece);
    },
  });
  try {
    const blob = await new Response(packed.stream().pipeThrough(new DecompressionStream("deflate-raw")).pipeThrough(limited)).blob();
    if (blob.size !== entry.size) throw new Error("zip.broken");
    return blob;
  } catch {
    throw new Error("zip.broken");
  }
}

async function read(file, at, length) {
  const found = await file.slice(at, at + length).arrayBuffer();
  if (found.byteLength !== length) throw new Error("zip.broken");
  return new DataView(found);
}

const number64 = (view, place) => Number(view.getBigUint64(place, true));
