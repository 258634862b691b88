// Matrix: a zoomable map of rows by columns with the tokens' labels.
{
  const { el } = fxplain;
  const TALLEST = 520;
  const MOST_CELLS = 1200;
  const LABEL = 13; // pixels that a label's line needs

  // axes: { rows: {name, label(i), place(i)?, starts?}, columns }: `place` says where a token is, `starts` where
  // another modality's tokens begin. pick(row, column) is called on a choice.
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

    // apart(row, column): whether a number starts from 1: a dot stands for it, and the colours are for the others.
    const show = (matrix, axes, apart = () => false) => {
      Object.assign(map, { matrix, axes, apart: [], cursor: null });
      map.most = 0;
      matrix.values.forEach((value, k) => {
        const size = Math.abs(value);
        const [row, column] = [Math.floor(k / matrix.columns), k % matrix.columns];
        if (apart(row, column)) map.apart.push([row, column]);
        else if (size > map.most) map.most = size;
      });
      canvas.setAttribute("aria-label", describe(map));
      paint();
      if (holder.isConnected) arrange();
      else requestAnimationFrame(arrange); // its size is known once it is in the page
    };
    const paint = () => {
      if (!map.matrix) return;
      const { rows, columns, values } = map.matrix;
      const levels = map.most ? values.map((value) => value / map.most) : new Float32Array(values.length);
      for (const [row, column] of map.apart) levels[row * columns + column] = 0;
      small = fxplain.pixels(columns, rows, (k) => {
        const { r, g, b } = fxplain.colour(levels[k]);
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
      borders(context, at, side, rows);
      dots(context, at, side);
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
    const dots = (context, at, side) => {
      context.fillStyle = fxplain.css("--muted");
      for (const cell of map.apart) {
        const [x, y] = at(...cell);
        context.beginPath();
        context.arc(x + side / 2, y + side / 2, Math.min(3, side / 4), 0, 2 * Math.PI);
        context.fill();
      }
    };
    const borders = (context, at, side, rows) => {
      context.strokeStyle = fxplain.css("--muted");
      context.lineWidth = 2;
      for (const start of map.axes.columns.starts ?? []) {
        const [x, y] = at(0, start);
        context.beginPath();
        context.moveTo(x, y);
        context.lineTo(x, y + side * rows);
        context.stroke();
      }
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
      context.fillText(fitting(context, map.axes.rows.name, Math.max(60, Math.min(height, 200))), 0, 0);
      context.restore();
      context.textAlign = "left";
      context.fillText(fitting(context, map.axes.columns.name, layout.wide - left), left, 8);
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
      const name = (axis, i) => `${axis.label(i)} (${axis.place?.(i) ?? i})`;
      status.textContent = `${name(map.axes.rows, row)} from ${name(map.axes.columns, column)}: ${fxplain.number(value)}`;
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

  // The numbers of a matrix as a table: all of them, or of a large one a row.
  fxplain.matrixTable = (matrix, axes, row, hint) => {
    if (!matrix) return el("p", { class: "note" }, "This matrix is not on the page.");
    const name = (axis, i) => `${axis.place?.(i) ?? i}: ${axis.label(i)}`;
    const columns = Array.from({ length: matrix.columns }, (_, j) => name(axes.columns, j));
    if (matrix.rows * matrix.columns <= MOST_CELLS) {
      const rows = Array.from({ length: matrix.rows }, (_, i) => [name(axes.rows, i), ...fxplain.row(matrix, i)]);
      return fxplain.table(["", ...columns], rows, `Rows: ${axes.rows.name}; columns: ${axes.columns.name}`);
    }
    const numbers = fxplain.row(matrix, row);
    return fxplain.table(
      ["token", "number"],
      columns.map((column, j) => [column, numbers[j]]),
      `Row ${name(axes.rows, row)} (${hint})`,
    );
  };

  const fitting = (context, text, width) => {
    let end = text.length;
    while (end > 1 && context.measureText(`${text.slice(0, end)}\u2026`).width > width) end--;
    return end < text.length && context.measureText(text).width > width ? `${text.slice(0, end)}\u2026` : text;
  };
  const short = (text) => (text.length > 14 ? `${text.slice(0, 13)}\u2026` : text);
}
