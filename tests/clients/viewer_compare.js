// Run in the page: every image of the archive, drawn by the viewer's own modules, against the server's rendered picture.
// [[series, instance, frame, largest difference or words]]
(async () => {
  const module = (name) => import(`${location.origin}/ui/${name}.js`);
  const [api, stack, { Loader }, { paint, windowOf }, { drawPlanes }] = await Promise.all(
    ["core/api", "viewer/stack", "viewer/loader", "viewer/pixels", "viewer/planes"].map(module));
  const found = [];
  const value = (row, tag) => row[tag]?.Value?.[0];
  const { rows: series } = await api.search("series", { query: { limit: 500 } });
  for (const row of series) {
    const [studyUid, seriesUid] = [value(row, "0020000D"), value(row, "0020000E")];
    const path = `studies/${studyUid}/series/${seriesUid}`;
    const instances = await api.json(`${path}/metadata`);
    const { rows } = await api.search(`${path}/instances`, { query: { includefield: "00083002", limit: 500 } });
    const syntaxes = new Map(rows.map((each) => [value(each, "00080018"), value(each, "00083002")]));
    const loader = new Loader(studyUid, new AbortController().signal);
    for (const { images } of stack.stacksOf(instances, syntaxes)) {
      for (const image of images.slice(0, 3)) {
        const name = [seriesUid, image.sopUid, image.frame];
        try {
          const { samples, tables } = await loader.load(image);
          const out = new Uint32Array(image.rows * image.columns);
          paint(image, samples, tables, windowOf(image, samples, tables, null), false, out);
          if (!samples.hasPlanes) drawPlanes(tables.planes, image, out);
          const picture = await loader.picture(image, `${path}/instances/${image.sopUid}/frames/${image.frame}`);
          const [mine, theirs] = [new Uint8Array(out.buffer), new Uint8Array(picture.data.buffer)];
          let most = 0;
          for (let at = 0; at < mine.length; at += 1) most = Math.max(most, Math.abs(mine[at] - theirs[at]));
          found.push([...name, most]);
        } catch (error) {
          found.push([...name, String(error)]);
        }
      }
    }
  }
  return found;
})()
