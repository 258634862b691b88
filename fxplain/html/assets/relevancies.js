// Relevancies: the section with the relevancy matrices of an explanation.
{
  const { el, data } = fxplain;

  fxplain.axis = (m) => ({ name: data.modalities[m].name, label: (i) => fxplain.shortName(m, i) });

  // The section with the relevancy matrices.
  fxplain.matrices = () => {
    const pair = firstPair();
    const pairKey = () => `${pair[0]},${pair[1]}`;
    const note = el("p", { class: "note" });
    const area = el("div", {});
    const map = fxplain.matrixMap(
      ({ matrix, axes }) => `Relevancy matrix, ${matrix.rows} rows of ${axes.rows.name} by ${matrix.columns} columns of ${axes.columns.name}. Arrow keys move, Enter chooses the row's token; the table below has the numbers.`,
      (row) => fxplain.pick(pair[0], row),
    );
    const behind = fxplain.behind("Numbers of this matrix", () => table(pair));
    const options = data.modalities.map((modality, m) => [String(m), modality.name]);
    const choose = (end) => (value) => {
      pair[end] = Number(value);
      update();
    };
    const bar = el(
      "div",
      { class: "matrix-bar" },
      fxplain.select("Rows: tokens of", options, String(pair[0]), choose(0)),
      fxplain.select("Columns: what they drew on", options, String(pair[1]), choose(1)),
      map.buttons,
    );
    area.append(map.element, behind.details);
    let shown = "";
    const update = () => {
      const able = fxplain.explanation().hasMatrices;
      const matrix = able ? fxplain.relevancies(...pair) : null;
      const how = matrix ? fxplain.onScreen(" Choose a row to see it on the input; Ctrl and the wheel, or two fingers, zoom.") : "";
      note.replaceChildren(!able
        ? `The method ${fxplain.explanation().method} scores tokens and has no relevancy matrices.`
        : matrix
          ? `Each row is a token of ${data.modalities[pair[0]].name}, and shows how much it drew on each token of ${data.modalities[pair[1]].name}. ${pair[0] === pair[1] ? "The diagonal starts from 1 (a token is itself): dots stand for it, and the colours are for the others." : ""}`.trim()
          : "This matrix is left out of the page, for its size.", how);
      area.hidden = map.buttons.hidden = !matrix;
      bar.hidden = !able;
      const key = `${fxplain.state.explanation} ${fxplain.state.sample} ${pairKey()}`;
      if (matrix && key !== shown) {
        shown = key;
        map.show(matrix, { rows: fxplain.axis(pair[0]), columns: fxplain.axis(pair[1]) },
          (row, column) => pair[0] === pair[1] && row === column);
      }
      const { token, direction } = fxplain.state;
      const marked = {};
      if (token?.m === pair[0] && direction !== "column") marked.row = token.i;
      if (token?.m === pair[1] && direction === "column") marked.column = token.i;
      if (matrix) map.mark(marked);
      behind.refresh();
    };
    fxplain.onChange(update);
    fxplain.onModeChange(() => map.repaint());
    return { section: fxplain.section("Relevancy matrices", bar, note, area), update };
  };

  // What the readout's modality drew on most: rows and columns that say something about the target.
  const firstPair = () => {
    const { read } = fxplain.ofSample();
    const sizes = data.modalities.map((_, m) => {
      const { values, apart } = fxplain.view(m);
      return values.reduce((sum, value, i) => sum + (apart.includes(i) ? 0 : Math.abs(value)), 0);
    });
    const a = Math.max(0, read.findIndex((places) => places.length > 0));
    return [a, sizes.indexOf(Math.max(...sizes))];
  };

  const table = ([a, b]) => {
    const { token } = fxplain.state;
    const row = token?.m === a ? token.i : 0;
    const axes = { rows: fxplain.axis(a), columns: fxplain.axis(b) };
    return fxplain.matrixTable(fxplain.relevancies(a, b), axes, row, "choose a token for another");
  };
}
