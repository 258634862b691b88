// Written: of a generated text, the numbers that each modality shows and what a choice of a token does.
// Rows are explained outputs: a token, several together (a word, or a span that other rows have parts of), or
// one rather than another (a contrast).
if (fxplain.data.outputs) {
  const { data, state, cached } = fxplain;
  const text = data.modalities.length - 1; // the earlier outputs
  const NOTHING = { kind: "token", places: [], target: "nothing", readout: "no token", score: null, read: data.modalities.map(() => []), classes: null };
  const NO_TOKEN = { token: null, direction: "target" };

  const rows = () => data.outputs.samples[state.sample].rows;
  const shown = () => state.preview ?? state.output;

  fxplain.text = text;
  fxplain.rows = rows;
  fxplain.explanation = () => data.outputs;
  fxplain.ofSample = () => rows()[shown()] ?? NOTHING;

  // The outputs by the tokens of a modality, or null where they are left out.
  fxplain.drawnFrom = (m) => {
    const packed = data.outputs.samples[state.sample].matrices[m];
    return packed && cached(`o ${state.sample} ${m}`, () => fxplain.matrix(packed));
  };

  // Whether the columns of a token are shown: which outputs drew on it.
  const ofToken = () => state.preview === null && state.token !== null && state.direction === "column";

  // The row of the output at a place of the text, or -1 where it was not explained.
  const rowAt = (place) => rows().findIndex(({ kind, places }) => (kind === "token" || kind === "word") && places.includes(place));

  fxplain.view = (m) => {
    const { token } = state;
    const matrix = fxplain.drawnFrom(ofToken() ? token.m : m);
    if (matrix === null || !matrix.rows || (ofToken() && m !== text)) return null;
    if (!ofToken()) return { values: fxplain.row(matrix, shown()), apart: fxplain.readFrom(m) };
    const places = Array.from({ length: data.modalities[text].count }, (_, place) => place);
    const own = places.map(rowAt);
    return {
      values: Float32Array.from(own, (row) => (row < 0 ? NaN : matrix.values[row * matrix.columns + token.i])),
      apart: places.filter((k) => own[k] < 0 || rows()[own[k]].read[token.m].includes(token.i)),
    };
  };
  fxplain.whyNoView = () => {
    if (!rows().length) return "None of the explained outputs is in this sample's text.";
    return ofToken()
      ? "The text shows which outputs drew on the chosen token. Choose an output to see what it drew on here."
      : "What this sample's outputs drew on is left out of the page, for its size.";
  };

  // The tokens that the output is read from, the ones before it: they start from 1, or a share of it.
  fxplain.readFrom = (m) => (ofToken() ? [] : fxplain.ofSample().read[m]);

  // What is said of an output that is pointed at: the number that was explained.
  fxplain.said = (m, i) => {
    const row = m === text && !ofToken() ? rows()[rowAt(i)] : null;
    return row ? `${fxplain.rowName(row)}: ${data.outputs.score} ${fxplain.number(row.score)}` : null;
  };

  fxplain.showRow = (output) => fxplain.change({ output, ...NO_TOKEN });
  fxplain.preview = (preview) => preview !== state.preview && fxplain.change({ preview });
  fxplain.previewAt = (place) => fxplain.preview(place === null || rowAt(place) < 0 ? null : rowAt(place));

  fxplain.pick = (m, i) => {
    const row = m === text ? rowAt(i) : -1;
    const token = { m, i };
    if (row >= 0) fxplain.change({ output: row, token, direction: "row", preview: null });
    else if (fxplain.isPicked(m, i)) fxplain.change(NO_TOKEN);
    else fxplain.change({ token, direction: "column", preview: null });
  };
  fxplain.isPicked = (m, i) =>
    ofToken() ? state.token.m === m && state.token.i === i : m === text && fxplain.ofSample().places.includes(i);

  fxplain.rowLabel = ({ kind, places, target }) => (kind === "token" ? fxplain.shortName(text, places[0]) : target);
  fxplain.rowName = (row) => {
    const { kind, places, target } = row;
    if (!places.length) return target;
    if (kind === "token") return fxplain.tokenName(text, places[0]);
    const where = places.length > 1 ? `outputs ${places[0]} to ${places.at(-1)} together` : `output ${places[0]}`;
    return `\u201c${target}\u201d (${where})`;
  };
  fxplain.viewName = () => {
    const { token } = state;
    if (!ofToken()) return `what ${fxplain.rowName(fxplain.ofSample())} drew on`;
    const name = token.m === text ? "" : ` of ${data.modalities[token.m].name}`;
    return `which outputs drew on ${fxplain.tokenName(token.m, token.i)}${name}`;
  };

  fxplain.viewChoices = () => {
    const output = rows()[state.output];
    const token = state.token ?? (output?.kind === "token" || output?.kind === "word" ? { m: text, i: output.places[0] } : null);
    if (token === null || !output) return null;
    const own = token.m === text && rowAt(token.i) === state.output;
    return {
      legend: `Of ${fxplain.tokenName(token.m, token.i)}`,
      options: [["row", own ? "What it drew on" : `What ${fxplain.rowName(output)} drew on`], ["column", "What drew on it"]],
      chosen: state.token && state.direction === "column" ? "column" : "row",
      choose: (direction) => fxplain.change({ token, direction }),
      clear: null,
    };
  };

  fxplain.viewNote = () =>
    "Point at an output, or choose it, to see what it drew on: in the inputs, and among the outputs before it. Choose a token of an input to see which outputs drew on it.";
}
