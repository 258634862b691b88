// Outputs: the tokens of a generated text as one points at them, and the matrix of outputs against inputs.
if (fxplain.data.outputs) {
  const { el, data, state } = fxplain;

  // Makes a text's tokens show what they drew on when they are pointed at or focused, and adds what else was
  // explained: spans, and contrasts.
  fxplain.outputTokens = (list) => {
    const placeOf = ({ target }) => {
      const option = target.closest("[data-place]");
      return option ? Number(option.dataset.place) : null;
    };
    list.addEventListener("pointerover", (event) => fxplain.previewAt(placeOf(event)));
    list.addEventListener("pointerleave", () => fxplain.preview(null));
    list.addEventListener("focusin", (event) => event.target.matches(":focus-visible") && fxplain.previewAt(placeOf(event)));
    list.addEventListener("focusout", () => fxplain.preview(null));

    const others = fxplain.rows().map((row, k) => [row, k]).filter(([{ kind }]) => kind !== "token" && kind !== "word");
    const buttons = others.map(([row, k]) =>
      el("button", {
        type: "button",
        onclick: () => fxplain.showRow(k),
        onpointerenter: () => fxplain.preview(k),
        onpointerleave: () => fxplain.preview(null),
      }, fxplain.rowName(row)));
    const update = () =>
      others.forEach(([row, k], i) => buttons[i].setAttribute("aria-pressed", row === fxplain.ofSample() || k === state.output));
    const element = buttons.length
      ? el("div", { class: "together", role: "group", "aria-label": "Also explained" }, el("span", { class: "muted" }, "Also explained:"), buttons)
      : null;
    return { element, update };
  };

  // ---- the matrix ---------------------------------------------------------------------------------

  const ALL = "all";

  // Columns of the matrix: the tokens of one modality, or those of all, one modality after the other.
  const columnsOf = (choice) => {
    const chosen = choice === ALL ? data.modalities.map((_, m) => m) : [Number(choice)];
    const from = chosen.flatMap((m) => Array.from({ length: data.modalities[m].count }, (_, i) => ({ m, i })));
    const hidden = (m) => new Set(fxplain.inputOf(m).padding ?? []);
    const padding = new Map(chosen.map((m) => [m, hidden(m)]));
    const tokens = from.filter(({ m, i }) => !padding.get(m).has(i));
    const starts = tokens.flatMap(({ m }, j) => (j && tokens[j - 1].m !== m ? [j] : []));
    return {
      tokens,
      axis: {
        name: chosen.map((m) => data.modalities[m].name).join(", "),
        label: (j) => fxplain.shortName(tokens[j].m, tokens[j].i),
        place: (j) => (choice === ALL ? `${tokens[j].i} of ${data.modalities[tokens[j].m].name}` : tokens[j].i),
        starts,
      },
    };
  };

  const drawnFrom = (tokens) => {
    const matrices = data.modalities.map((_, m) => fxplain.drawnFrom(m));
    if (matrices.includes(null)) return null;
    const [rows, columns] = [matrices[0].rows, tokens.length];
    const values = new Float32Array(rows * columns);
    tokens.forEach(({ m, i }, j) => {
      for (let row = 0; row < rows; row++) values[row * columns + j] = matrices[m].values[row * matrices[m].columns + i];
    });
    return { rows, columns, values };
  };

  const rowAxis = {
    name: "outputs",
    label: (k) => fxplain.rowLabel(fxplain.rows()[k]),
    place: (k) => fxplain.rows()[k].places.join(", "),
  };

  fxplain.outputs = () => {
    let choice = ALL;
    let shown = null;
    const map = fxplain.matrixMap(
      ({ matrix, axes }) => `Outputs against inputs, ${matrix.rows} outputs by ${matrix.columns} tokens of ${axes.columns.name}. Arrow keys move, Enter chooses the output; the table below has the numbers.`,
      (row) => fxplain.showRow(row),
    );
    const behind = fxplain.behind("Numbers of this matrix", () =>
      fxplain.matrixTable(shown.matrix, { rows: rowAxis, columns: shown.axis }, state.output, "choose an output for another"));
    const options = [[ALL, "all"], ...data.modalities.map(({ name }, m) => [String(m), name])];
    const bar = el("div", { class: "matrix-bar" },
      fxplain.select("Columns: tokens of", options, ALL, (value) => {
        choice = value;
        shown = null;
        update();
      }),
      map.buttons);
    const note = el("p", { class: "note" });
    const area = el("div", {}, map.element, behind.details);
    const update = () => {
      const key = `${state.sample} ${choice}`;
      if (shown?.key !== key) {
        const { tokens, axis } = columnsOf(choice);
        shown = { key, tokens, axis, matrix: drawnFrom(tokens) };
        const apart = (row, column) => fxplain.rows()[row].read[tokens[column].m].includes(tokens[column].i);
        if (shown.matrix?.rows) map.show(shown.matrix, { rows: rowAxis, columns: axis }, apart);
        behind.refresh();
      }
      area.hidden = map.buttons.hidden = !shown.matrix?.rows;
      note.replaceChildren(...(area.hidden
        ? [fxplain.whyNoView()]
        : ["Each row is an output, and shows how much it drew on each token.",
          fxplain.rows().some(({ read }) => read.flat().length)
            ? " The token that it is read from, the one before it, starts from 1: a dot stands for it, and the colours are for the others."
            : "",
          fxplain.onScreen(" Choose a row to see it on the inputs; Ctrl and the wheel, or two fingers, zoom.")]));
      if (!area.hidden) map.mark(marked(shown.tokens));
    };
    const follow = (changes) => {
      update();
      if ("output" in changes) behind.refresh();
    };
    fxplain.onChange(follow);
    fxplain.onModeChange(() => map.repaint());
    return { section: fxplain.section("Outputs against inputs", bar, note, area), update };
  };

  // The row of what is shown, or the column of a chosen token.
  const marked = (tokens) => {
    const { token, direction, preview, output } = state;
    if (preview !== null || token === null || direction !== "column") return { row: preview ?? output };
    const column = tokens.findIndex(({ m, i }) => m === token.m && i === token.i);
    return column < 0 ? {} : { column };
  };
}
