// State: what is chosen. What follows from it is in explained.js, of explanations, and in written.js, of a
// generated text.
{
  const data = JSON.parse(document.getElementById("data").textContent);
  const listeners = [];
  const cache = new Map();

  // explanation: which method or target; output, preview: which output is chosen, which is pointed at.
  const state = { explanation: 0, sample: 0, token: null, direction: "target", output: 0, preview: null, by: {}, hide: data.special === "hide" };

  fxplain.data = data;
  fxplain.state = state;
  fxplain.onChange = (listener) => listeners.push(listener);
  fxplain.change = (changes) => {
    Object.assign(state, changes);
    listeners.forEach((listener) => listener(changes));
  };

  fxplain.cached = (key, make) => {
    if (!cache.has(key)) cache.set(key, make());
    return cache.get(key);
  };

  fxplain.inputOf = (m) => data.samples[state.sample][m];

  fxplain.nodeMap = (node) => {
    const maps = data.graph.nodes[node].maps;
    if (!maps) return null;
    return fxplain.cached(`n ${node} ${state.sample}`, () => fxplain.matrix(maps[state.sample]));
  };

  // A text too long for half of the page.
  fxplain.isLong = ({ kind, count }) => kind === "words" && count > 40;

  // ---- names --------------------------------------------------------------------------------------

  // The places of a modality's tokens on its pictures, row by row, or in order; special ones left aside.
  fxplain.plain = (m) =>
    fxplain.inputOf(m).places ?? fxplain.cached(`p ${m}`, () => {
      const { count, places } = data.modalities[m];
      const special = fxplain.special(m);
      if (places) return places;
      return Array.from({ length: count }, (_, i) => i).filter((i) => !(i in special));
    });

  // The special tokens by place: the sample's own, where samples are not alike.
  fxplain.special = (m) => fxplain.inputOf(m).special ?? data.modalities[m].special;

  // The pictures: the sample's own, where samples are not alike.
  fxplain.tiles = (m) => fxplain.inputOf(m).tiles ?? data.modalities[m].tiles;

  // A token in a few characters, for axes.
  fxplain.shortName = (m, i) => {
    const { words, labels } = fxplain.inputOf(m);
    return words ? words[i][0] : labels[i] || String(i);
  };

  fxplain.tokenName = (m, i) => {
    const { kind, seconds } = data.modalities[m];
    const special = fxplain.special(m);
    const label = fxplain.inputOf(m).labels[i];
    if (kind === "words") return `\u201c${fxplain.shortName(m, i)}\u201d (${data.outputs && m === data.modalities.length - 1 ? "output" : "token"} ${i})`;
    if (i in special) return Object.values(special).filter((name) => name === special[i]).length > 1 ? `${label} (token ${i})` : label;
    if (kind === "grid") {
      const place = fxplain.plain(m).indexOf(i);
      if (place < 0) return `token ${i}`; // of another sample's picture
      const tile = fxplain.tiles(m).findLast(({ offset }) => offset <= place);
      const inTile = place - tile.offset;
      return `${tile.name ? `${tile.name}, ` : ""}row\u00a0${Math.floor(inTile / tile.columns)}, column\u00a0${inTile % tile.columns}`;
    }
    if (kind === "boxes") return `box ${i}`;
    if (seconds) {
      const step = seconds / fxplain.plain(m).length;
      const start = fxplain.plain(m).indexOf(i) * step;
      return `${start.toFixed(2)}\u2013${(start + step).toFixed(2)} s`;
    }
    return label && label !== String(i) ? `token ${i} (${label})` : `token ${i}`;
  };
}
