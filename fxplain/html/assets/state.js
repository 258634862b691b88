// State: what is chosen (explanation, sample, token, direction), and the numbers that follow from it.
{
  const data = JSON.parse(document.getElementById("data").textContent);
  const listeners = [];
  const cache = new Map();

  const state = { explanation: 0, sample: 0, token: null, direction: "target" };

  fxplain.data = data;
  fxplain.state = state;
  fxplain.onChange = (listener) => listeners.push(listener);
  fxplain.change = (changes) => {
    Object.assign(state, changes);
    listeners.forEach((listener) => listener(changes));
  };

  const cached = (key, make) => {
    if (!cache.has(key)) cache.set(key, make());
    return cache.get(key);
  };

  fxplain.explanation = () => data.explanations[state.explanation];
  fxplain.ofSample = () => fxplain.explanation().samples[state.sample];
  fxplain.inputOf = (m) => data.samples[state.sample][m];

  fxplain.relevance = (m) =>
    cached(`r ${state.explanation} ${state.sample} ${m}`, () =>
      fxplain.vector(fxplain.ofSample().relevance[m]),
    );

  // The relevancy matrix of the chosen explanation and sample, or null where the page has none.
  fxplain.relevancies = (a, b) => {
    const packed = fxplain.ofSample().matrices[`${a},${b}`];
    if (!packed) return null;
    return cached(`m ${state.explanation} ${state.sample} ${a} ${b}`, () => fxplain.matrix(packed));
  };

  fxplain.nodeMap = (node) => {
    const maps = data.graph.nodes[node].maps;
    if (!maps) return null;
    return cached(`n ${node} ${state.sample}`, () => fxplain.matrix(maps[state.sample]));
  };

  // What is shown on modality m: its numbers, and the places that are left out of the shades since they
  // start from the identity (the readout itself, the chosen token itself).
  fxplain.view = (m) => {
    const { token, direction } = state;
    if (token === null || direction === "target" || !fxplain.explanation().hasMatrices) {
      const read = fxplain.ofSample().read[m];
      return { values: fxplain.relevance(m), apart: read.length === 1 ? read : [] };
    }
    const matrix =
      direction === "row" ? fxplain.relevancies(token.m, m) : fxplain.relevancies(m, token.m);
    if (matrix === null) return null;
    return {
      values: (direction === "row" ? fxplain.row : fxplain.column)(matrix, token.i),
      apart: m === token.m ? [token.i] : [],
    };
  };

  fxplain.pick = (m, i) => {
    const { token, direction } = state;
    if (token !== null && token.m === m && token.i === i) {
      fxplain.change({ token: null, direction: "target" });
    } else {
      fxplain.change({ token: { m, i }, direction: direction === "target" ? "row" : direction });
    }
  };

  fxplain.isPicked = (m, i) => state.token !== null && state.token.m === m && state.token.i === i;

  // A text too long for half of the page.
  fxplain.isLong = ({ kind, count }) => kind === "words" && count > 40;

  // ---- names --------------------------------------------------------------------------------------

  // The places of a modality's tokens that lie on its grid, special ones left aside.
  fxplain.plain = (m) =>
    cached(`p ${m}`, () => {
      const { count, special } = data.modalities[m];
      return Array.from({ length: count }, (_, i) => i).filter((i) => !(i in special));
    });

  // A token in a few characters, for axes.
  fxplain.shortName = (m, i) => {
    const { words, labels } = fxplain.inputOf(m);
    return words ? words[i][0] : labels[i] || String(i);
  };

  fxplain.tokenName = (m, i) => {
    const { kind, grid, special, seconds } = data.modalities[m];
    const label = fxplain.inputOf(m).labels[i];
    if (kind === "words") return `\u201c${fxplain.shortName(m, i)}\u201d (token ${i})`;
    if (i in special) return label;
    if (kind === "grid") {
      const place = fxplain.plain(m).indexOf(i);
      const [rows, columns] = grid.slice(-2);
      const inTile = place % (rows * columns);
      const time = grid.length === 3 ? `time ${Math.floor(place / (rows * columns))}, ` : "";
      return `${time}row ${Math.floor(inTile / columns)}, column ${inTile % columns}`;
    }
    if (kind === "boxes") return `box ${i}`;
    if (seconds) {
      const step = seconds / fxplain.plain(m).length;
      const start = fxplain.plain(m).indexOf(i) * step;
      return `${start.toFixed(2)}\u2013${(start + step).toFixed(2)} s`;
    }
    return label && label !== String(i) ? `token ${i} (${label})` : `token ${i}`;
  };

  fxplain.viewName = () => {
    const { token, direction } = state;
    if (token === null || direction === "target" || !fxplain.explanation().hasMatrices) {
      return "relevance to the target";
    }
    const name = `${fxplain.tokenName(token.m, token.i)} of ${data.modalities[token.m].name}`;
    return direction === "row" ? `what ${name} drew on` : `what drew on ${name}`;
  };
}
