// Matrix: a zoomable map of rows by columns with the tokens' labels.
{
  const { el } = fxplain;
  const TALLEST = 520;
  const LABEL = 13; // pixels that a label's line needs

  // axes: { rows: {name, label(i)}, columns: {name, label(i)} }; pick(row, column) is called on a choice.
  fxplain.matrixMap = (describe, pick) => {
    const canvas = el("canvas", { tabindex: "0", role: "application", "aria-roledescription": "matrix" });
    const status = el("p", { class: "status", "aria-live": "polite" });
    const holder = el("div", { class: "matrix" }, canvas);
    const map = { matrix: null, marked: null, cursor: null, transform: d3.zoomIdentity, most: 0 };
    let layout = null;
    let small = null;

    const zoom = d3
      .zoom()
      .filter((event) => {
        if (event.type === "wheel") return event.ctrlKey || event.metaKey || document.activeElement === canvas;
        if (event.type.startsWith("touch")) return event.touches.length > 1;
        return !event.button && event.type !== "dblclick";
      })
      .clickDistance(4)
      .on("zoom", (event) => {
        map.transform = event.transform;
        draw();
      });
    d3.select(canvas).call(zoom);

    const show = (matrix, axes, square) => {
      Object.assign(map, { matrix, axes, square, cursor: null });
      map.signed = matrix.values.some((value) => value < 0);
      map.most = 0;
      matrix.values.forEach((value, k) => {
        const size = Math.abs(value);
        const own = square && Math.floor(k / matrix.columns) === k % matrix.columns;
        if (!own && size > map.most) map.most = size;
      });
      canvas.setAttribute("aria-label", describe(map));
      paint();
      arrange();
    };
    const paint = () => {
      if (!map.matrix) return;
      const { rows, columns, values } = map.matrix;
      small = fxplain.pixels(columns, rows, (k) => {
        const { r, g, b } = fxplain.colour(map.most ? values[k] / map.most : 0);
        return [r, g, b, 255];
      });
    };
    const arrange = () => {
      const wide = holder.clientWidth;
      if (!map.matrix || !wide) return;
      const { rows, columns } = map.matrix;
      const context = canvas.getContext("2d");
      context.font = font();
      const longest = (axis, count) => {
        let most = 0;
        for (let i = 0; i < Math.min(count, 600); i++) most = Math.max(most, context.measureText(short(axis.label(i))).width);
        return Math.min(120, Math.ceil(most) + 10);
      };
      const left = longest(map.axes.rows, rows) + 16;
      const top = longest(map.axes.columns, columns) + 16;
      const cell = Math.min((wide - left - 2) / columns, Math.max(TALLEST / rows, 2), 44);
      layout = { left, top, cell, width: cell * columns, height: cell * rows, wide };
      const area = [[left, top], [left + layout.width, top + layout.height]];
      zoom.extent(area).translateExtent(area).scaleExtent([1, Math.max(4, 44 / cell)]);
      d3.select(canvas).call(zoom.transform, d3.zoomIdentity);
    };
    const font = () => `12px ${fxplain.css("--mono")}`;

    const draw = () => {
      if (!layout || !small) return;
      const { left, top, cell, width, height, wide } = layout;
      const { rows, columns } = map.matrix;
      const t = map.transform;
      const tall = top + height + 2;
      const context = fxplain.sized(canvas, wide, tall);
      context.clearRect(0, 0, wide, tall);
      context.save();
      context.beginPath();
      context.rect(left, top, width, height);
      context.clip();
      context.imageSmoothingEnabled = false;
      context.drawImage(small, t.applyX(left), t.applyY(top), width * t.k, height * t.k);
      const side = cell * t.k;
      const at = (row, column) => [t.applyX(left + column * cell), t.applyY(top + row * cell)];
      if (side > 9) lines(context, at, side, rows, columns);
      if (map.marked) {
        context.strokeStyle = fxplain.css("--picked");
        context.lineWidth = 2;
        const { row = null, column = null } = map.marked;
        if (row !== null) context.strokeRect(...at(row, 0), side * columns, side);
        if (column !== null) context.strokeRect(...at(0, column), side, side * rows);
      }
      if (map.cursor) {
        context.strokeStyle = fxplain.css("--focus");
        context.lineWidth = 3;
        context.strokeRect(...at(...map.cursor), side, side);
      }
      context.restore();
      context.strokeStyle = fxplain.css("--line");
      context.lineWidth = 1;
      context.strokeRect(left - 0.5, top - 0.5, width + 1, height + 1);
      labels(context, at, side);
    };
    const lines = (context, at, side, rows, columns) => {
      context.strokeStyle = fxplain.css("--surface");
      context.lineWidth = 1;
      context.beginPath();
      for (let i = 0; i <= rows; i++) {
        const [x, y] = at(i, 0);
        context.moveTo(x, y);
        context.lineTo(x + side * columns, y);
      }
      for (let j = 0; j <= columns; j++) {
        const [x, y] = at(0, j);
        context.moveTo(x, y);
        context.lineTo(x, y + side * rows);
      }
      context.stroke();
    };
    const labels = (context, at, side) => {
      const { left, top, width, height } = layout;
      const { rows, columns } = map.matrix;
      const step = Math.max(1, Math.ceil(LABEL / side));
      context.font = font();
      context.fillStyle = fxplain.css("--ink");
      context.textBaseline = "middle";
      context.textAlign = "right";
      for (let i = 0; i < rows; i += step) {
        const y = at(i, 0)[1] + side / 2;
        if (y >= top && y <= top + height) context.fillText(short(map.axes.rows.label(i)), left - 6, y);
      }
      context.textAlign = "left";
      for (let j = 0; j < columns; j += step) {
        const x = at(0, j)[0] + side / 2;
        if (x < left || x > left + width) continue;
        context.save();
        context.translate(x, top - 6);
        context.rotate(-Math.PI / 2);
        context.fillText(short(map.axes.columns.label(j)), 0, 0);
        context.restore();
      }
      context.fillStyle = fxplain.css("--muted");
      context.save();
      context.translate(9, top + Math.min(height, 200) / 2);
      context.rotate(-Math.PI / 2);
      context.textAlign = "center";
      context.fillText(map.axes.rows.name, 0, 0);
      context.restore();
      context.textAlign = "left";
      context.fillText(map.axes.columns.name, left, 8);
    };

    const cellAt = (event) => {
      if (!layout) return null;
      const box = canvas.getBoundingClientRect();
      const column = Math.floor((map.transform.invertX(event.clientX - box.left) - layout.left) / layout.cell);
      const row = Math.floor((map.transform.invertY(event.clientY - box.top) - layout.top) / layout.cell);
      const { rows, columns } = map.matrix;
      return row >= 0 && row < rows && column >= 0 && column < columns ? [row, column] : null;
    };
    const say = (cell) => {
      if (!cell) return void (status.textContent = "");
      const [row, column] = cell;
      const value = map.matrix.values[row * map.matrix.columns + column];
      status.textContent = `${map.axes.rows.label(row)} (${row}) from ${map.axes.columns.label(column)} (${column}): ${fxplain.number(value)}`;
    };
    canvas.addEventListener("pointermove", (event) => say(cellAt(event)));
    canvas.addEventListener("pointerleave", () => say(null));
    canvas.addEventListener("click", (event) => {
      const cell = cellAt(event);
      if (cell) pick(...cell);
    });
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    fxplain.cursorKeys(canvas, steps, ([down, across]) => {
      const [row, column] = map.cursor ?? [0, 0];
      const { rows, columns } = map.matrix;
      map.cursor = [Math.max(0, Math.min(rows - 1, row + down)), Math.max(0, Math.min(columns - 1, column + across))];
      say(map.cursor);
      draw();
    }, () => map.cursor && pick(...map.cursor));
    canvas.addEventListener("blur", () => {
      map.cursor = null;
      draw();
    });

    const scaled = (factor) => d3.select(canvas).call(zoom.scaleBy, factor);
    const buttons = el(
      "div",
      { class: "buttons", role: "group", "aria-label": "Zoom" },
      el("button", { type: "button", "aria-label": "Zoom in", onclick: () => scaled(1.6) }, "+"),
      el("button", { type: "button", "aria-label": "Zoom out", onclick: () => scaled(1 / 1.6) }, "\u2212"),
      el("button", { type: "button", onclick: () => d3.select(canvas).call(zoom.transform, d3.zoomIdentity) }, "Whole"),
    );
    fxplain.onResize(holder, arrange);
    const mark = (marked) => {
      map.marked = marked;
      draw();
    };
    const repaint = () => {
      paint();
      draw();
    };
    return { element: el("div", {}, holder, status), buttons, show, mark, repaint, map };
  };

  const short = (text) => (text.length > 14 ? `${text.slice(0, 13)}\u2026` : text);
}
{
  const { el, data } = fxplain;
  const MOST_CELLS = 1200;

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
      note.textContent = !able
        ? `The method ${fxplain.explanation().method} scores tokens and has no relevancy matrices.`
        : matrix
          ? `Each row is a token of ${data.modalities[pair[0]].name}, and shows how much it drew on each token of ${data.modalities[pair[1]].name}. ${pair[0] === pair[1] ? "The diagonal starts from 1 (a token is itself) and is left out of the scale. " : ""}Choose a row to see it on the input; Ctrl and the wheel, or two fingers, zoom.`
          : "This matrix is left out of the page, for its size.";
      area.hidden = map.buttons.hidden = !matrix;
      const key = `${fxplain.state.explanation} ${fxplain.state.sample} ${pairKey()}`;
      if (matrix && key !== shown) {
        shown = key;
        map.show(matrix, { rows: fxplain.axis(pair[0]), columns: fxplain.axis(pair[1]) }, pair[0] === pair[1]);
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
    const matrix = fxplain.relevancies(a, b);
    const { token } = fxplain.state;
    const whole = matrix.rows * matrix.columns <= MOST_CELLS;
    const row = token?.m === a ? token.i : 0;
    const rows = whole ? Array.from({ length: matrix.rows }, (_, i) => i) : [row];
    const columns = Array.from({ length: matrix.columns }, (_, j) => j);
    const name = (m, i) => `${i}: ${fxplain.shortName(m, i)}`;
    if (whole) {
      return fxplain.table(
        ["", ...columns.map((j) => name(b, j))],
        rows.map((i) => [name(a, i), ...fxplain.row(matrix, i)]),
        `Rows: ${data.modalities[a].name}; columns: ${data.modalities[b].name}`,
      );
    }
    return fxplain.table(
      ["token", "number"],
      columns.map((j) => [name(b, j), matrix.values[row * matrix.columns + j]]),
      `Row ${name(a, row)} (choose a token for another)`,
    );
  };
}
