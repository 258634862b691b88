// Graph: a lane for each stream of tokens, and its attention nodes from left to right.
{
  const { el, svg, data } = fxplain;
  const STEP = 46;
  const LANE = 92;
  const MARGIN = 40;
  const RADIUS = 15;
  const SMALLEST = 0.62; // the scale at which a letter can still be read
  const LETTERS = { self: "S", co: "C", "encoder-decoder": "E", pooling: "P", route: "R" };
  const ABOUT = {
    self: "self: tokens of one sequence attend to each other",
    co: "co: two modalities attend to each other",
    "encoder-decoder": "encoder-decoder: one modality attends to another",
    pooling: "pooling: a learned query, read out at once",
    route: "route: tokens mixed by fixed weights",
  };

  // Time runs to the right here: what the layout calls a row is a step, and a column is a line.
  const x = (row) => MARGIN + row * STEP;
  const y = (column) => 46 + column * LANE;

  fxplain.graph = () => {
    const { updates, lanes, rows, columns } = data.graph.drawing;
    if (!updates.length) return fxplain.section("Attention graph", el("p", {}, "No attention was found."));
    const size = { width: x(rows) + MARGIN + 40, height: y(columns - 1) + 62 };

    const details = el("div", { class: "node-details", "aria-live": "polite" });
    const map = fxplain.matrixMap(() => "Attention of this node, queries by keys", () => {});
    const describe = fxplain.nodeDetails(map);
    const marks = updates.map((update) => mark(update, (chosen) => choose(chosen)));
    let current = null;
    const choose = (update) => {
      current = update;
      marks.forEach((each, k) => {
        each.classList.toggle("chosen", updates[k] === update);
        each.setAttribute("aria-pressed", updates[k] === update);
      });
      details.replaceChildren(el("h3", {}, fxplain.nodeTitle(update)), describe(update));
    };

    const lines = svg("g", { "aria-hidden": "true" }, lanes.map((lane) => rail(lane, updates)), updates.flatMap(links));
    const written = svg("g", { class: "writing", "aria-hidden": "true" }, updates.map(writing));
    const inside = svg("g", {}, lines, marks, written);
    const names = lanes.map(laneName);
    const drawing = svg("svg", { class: "graph", role: "group", "aria-label": "Attention nodes in the order in which they run; arrow keys move between them" }, inside, svg("g", { "aria-hidden": "true" }, names.map(({ element }) => element)));
    const height = Math.min(size.height, 560);
    drawing.style.height = `${height}px`;
    const buttons = zoomed(drawing, inside, names, size, height, marks);
    fxplain.rove(marks);

    const table = fxplain.behind("All nodes as a table", () => nodeTable(choose));
    const kinds = [...new Set(updates.map(({ kind }) => kind))];
    const section = fxplain.section(
      "Attention graph",
      el("p", { class: "note" }, `A line for each sequence of tokens, from input (left) to output. A node attends to its own line, or to the line that its link comes from. Choose one to see where it is in ${data.graph.model}.`),
      el("ul", { class: "kinds" }, kinds.map((kind) => el("li", {}, el("span", { class: `letter ${kind}`, "aria-hidden": "true" }, LETTERS[kind] ?? "?"), ABOUT[kind] ?? kind))),
      buttons,
      drawing,
      el("p", { class: "note" }, "Read out: ", el("code", {}, data.graph.readout)),
      details,
      table.details,
      fxplain.behindRoutes(),
    );
    choose(updates[0]);
    fxplain.onChange((changes) => "sample" in changes && choose(current));
    fxplain.onModeChange(() => map.repaint());
    return section;
  };

  const mark = (update, choose) => {
    const { kind, module, index, row, column } = update;
    const [cx, cy] = [x(row), y(column)];
    const shape =
      kind === "route"
        ? svg("rect", { x: cx - 10, y: cy - 10, width: 20, height: 20, transform: `rotate(45 ${cx} ${cy})` })
        : svg("circle", { cx, cy, r: RADIUS });
    return svg(
      "g",
      {
        class: `mark ${kind}`,
        role: "button",
        "aria-label": `${fxplain.nodeTitle(update)}, ${module || "the model itself"}`,
        "aria-pressed": "false",
        "data-index": index,
        onclick: () => choose(update),
      },
      svg("circle", { cx, cy, r: 21, class: "halo" }),
      shape,
    );
  };

  // What is written on a node: a letter for its kind, its number beneath.
  const writing = ({ kind, index, row, column }) => [
    svg("text", { x: x(row), y: y(column) + 4.5, class: `letter ${kind}` }, LETTERS[kind] ?? "?"),
    kind === "route" ? "" : svg("text", { x: x(row), y: y(column) + 33, class: "count" }, String(index + 1)),
  ];

  // A stream's line: solid as long as it changes, dotted on to the last that reads it.
  const rail = (lane, updates) => {
    const own = updates.filter(({ column, row }) => column === lane.column && row >= lane.first && row <= lane.last);
    const line = y(lane.column);
    const start = lane.first || 0.35;
    const done = Math.max(start + 0.5, ...own.map(({ row }) => row + 0.6));
    const end = lane.last - 0.45;
    return [
      svg("line", { class: "rail", x1: x(start), y1: line, x2: x(done), y2: line }),
      end > done ? svg("line", { class: "rail waiting", x1: x(done), y1: line, x2: x(end), y2: line }) : "",
      readsOut(lane) ? svg("text", { class: "read-out", x: x(Math.max(done, end)) + 8, y: line + 4 }, "read out") : "",
      lane.first ? "" : svg("line", { class: "rail", x1: x(start), y1: line - 7, x2: x(start), y2: line + 7 }),
    ];
  };

  const streamOf = (lane) => data.graph.streams.find(({ name }) => name === lane.name);

  // Whether the model's main output is read from a token of this stream.
  const readsOut = (lane) =>
    (streamOf(lane)?.modalities ?? []).some((name) =>
      ` ${data.graph.readout}`.includes(` ${name}[`), // "decoder_input_ids[0]" is no "input_ids[0]"
    );

  const links = ({ kind, row, column, reads }) =>
    reads.map((read) => {
      const [x1, y1] = [x(row - 0.5), y(read)];
      const [x2, y2] = [x(row), y(column)];
      const toward = y2 + Math.sign(y1 - y2) * RADIUS;
      const middle = (y1 + toward) / 2;
      return svg("g", { class: `link ${kind}` },
        svg("circle", { cx: x1, cy: y1, r: 3.5 }),
        svg("path", { d: `M${x1},${y1} C${x1},${middle} ${x2},${middle} ${x2},${toward}` }));
    });

  // A stream's name stays in sight while the drawing moves: above its line, or beneath where it goes on
  // in the line of another. `place` moves it.
  const laneName = (lane) => {
    const modalities = streamOf(lane)?.modalities ?? [];
    const name = modalities.join(" + ") || lane.name;
    const short = name.length > 44 ? `${name.slice(0, 43)}\u2026` : name;
    const text = `${lane.first ? "" : `${short}, `}${lane.tokens} token${lane.tokens === 1 ? "" : "s"}`;
    const element = svg("g", { class: "lane-name" }, svg("text", { x: 0, y: 0 }, text));
    const place = (transform) => {
      const [first, last] = [lane.first ? x(lane.first) - 12 : 8, x(lane.last)].map((at) => transform.applyX(at));
      const left = Math.min(Math.max(8, first), Math.max(first, last - 7.7 * text.length));
      const beside = lane.first ? 50 * transform.k : -24 * Math.max(0.6, transform.k) - 4;
      element.setAttribute("transform", `translate(${left} ${transform.applyY(y(lane.column)) + beside})`);
    };
    return { element, place };
  };

  const zoomed = (drawing, inside, names, size, height, marks) => {
    const zoom = d3
      .zoom()
      .filter((event) => {
        if (event.type === "wheel") return event.ctrlKey || event.metaKey;
        return event.type.startsWith("touch") || (!event.button && event.type !== "dblclick");
      })
      .on("zoom", ({ transform }) => {
        inside.setAttribute("transform", transform);
        names.forEach(({ place }) => place(transform));
      });
    const selected = d3.select(drawing).call(zoom).on("dblclick.zoom", null);
    const width = () => drawing.clientWidth || 600;
    const fit = () => Math.min(1, width() / size.width, height / size.height);
    const begin = () => {
      const scale = Math.max(fit(), SMALLEST);
      drawing.style.height = `${Math.min(height, size.height * scale)}px`;
      const far = [Math.max(size.width, width() / scale), Math.max(size.height, height / scale)];
      zoom
        .extent([[0, 0], [width(), height]])
        .scaleExtent([Math.min(fit(), SMALLEST), 3])
        .translateExtent([[0, 0], far]);
      selected.call(zoom.transform, d3.zoomIdentity.scale(scale));
    };
    fxplain.onResize(drawing, begin);
    const { updates } = data.graph.drawing;
    marks.forEach((each, k) =>
      each.addEventListener("focus", () => {
        if (!each.matches(":focus-visible")) return;
        selected.call(zoom.translateTo, x(updates[k].row), y(0), [width() / 2, 46]);
      }),
    );
    const by = (factor) => () => selected.call(zoom.scaleBy, factor);
    return el(
      "div",
      { class: "buttons", role: "group", "aria-label": "Zoom of the graph" },
      el("button", { type: "button", "aria-label": "Zoom in", onclick: by(1.4) }, "+"),
      el("button", { type: "button", "aria-label": "Zoom out", onclick: by(1 / 1.4) }, "\u2212"),
      el("button", { type: "button", onclick: () => selected.call(zoom.transform, d3.zoomIdentity.scale(fit())) }, "Whole"),
    );
  };

  const nodeTable = (choose) =>
    fxplain.table(
      ["node", "kind", "queries", "keys", "heads", "size", "module"],
      data.graph.drawing.updates.filter(({ kind }) => kind !== "route").map((update) => {
        const node = data.graph.nodes[update.index];
        return [
          el("button", { type: "button", class: "plain", onclick: () => choose(update) }, String(update.index + 1)),
          node.kind, node.query.join(", "), node.key.join(", "), String(node.heads),
          `${node.q_len} \u00d7 ${node.k_len}`, el("code", {}, node.module || node.name),
        ];
      }),
    );

  fxplain.behindRoutes = () => {
    const { routes } = data.graph;
    if (!routes.length) return "";
    return fxplain.behind("All routes as a table", () =>
      fxplain.table(
        ["operation", "makes", "from", "module"],
        routes.map((route) => [el("code", {}, route.operation), route.target, route.source.join(", "), el("code", {}, route.module || "-")]),
      ),
    ).details;
  };
}
