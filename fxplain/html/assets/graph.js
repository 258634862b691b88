// Graph: a lane for each stream of tokens, and its attention nodes from left to right.
{
  const { el, svg, data } = fxplain;
  const STEP = 46;
  const LANE = 92;
  const MARGIN = 40;
  const RADIUS = 15;
  const LETTERS = { self: "S", co: "C", "encoder-decoder": "E", pooling: "P", route: "R" };
  const ABOUT = {
    self: "self: tokens of one sequence attend to each other",
    co: "co: two modalities attend to each other",
    "encoder-decoder": "encoder-decoder: one modality attends to another",
    pooling: "pooling: a learned query, read out at once",
    route: "route: tokens mixed by fixed weights",
  };

  const kindOf = (stop) => (stop.is_route ? "route" : data.graph.nodes[stop.index].kind);
  const x = (column) => MARGIN + column * STEP;
  const y = (lane) => 46 + lane * LANE;

  fxplain.graph = () => {
    const { stops, streams } = data.graph;
    if (!stops.length) return fxplain.section("Attention graph", el("p", {}, "No attention was found."));
    const used = [...new Set(stops.flatMap((stop) => [stop.lane, ...stop.reads]))].sort((a, b) => a - b);
    const lane = new Map(used.map((each, k) => [each, k]));
    const last = Math.max(...stops.map((stop) => stop.column));
    const size = { width: x(last + 1) + MARGIN, height: y(used.length - 1) + 52 };

    const details = el("div", { class: "node-details", "aria-live": "polite" });
    const map = fxplain.matrixMap(() => "Attention of this node, queries by keys", () => {});
    const describe = fxplain.nodeDetails(map);
    const marks = stops.map((stop) => mark(stop, lane, (chosen) => choose(chosen)));
    let current = null;
    const choose = (stop) => {
      current = stop;
      marks.forEach((each, k) => {
        each.classList.toggle("chosen", stops[k] === stop);
        each.setAttribute("aria-pressed", stops[k] === stop);
      });
      details.replaceChildren(el("h3", {}, fxplain.nodeTitle(stop)), describe(stop));
    };

    const lines = svg("g", { "aria-hidden": "true" }, used.map((each) => rail(each, stops, lane)), stops.flatMap((stop) => links(stop, lane)));
    const written = svg("g", { class: "writing", "aria-hidden": "true" }, stops.map((stop) => writing(stop, lane)));
    const inside = svg("g", {}, lines, marks, written);
    const names = used.map((each) => laneName(streams[each], lane.get(each)));
    const drawing = svg("svg", { class: "graph", role: "group", "aria-label": "Attention nodes in the order in which they run; arrow keys move between them" }, inside, svg("g", { "aria-hidden": "true" }, names));
    const height = Math.min(size.height, 560);
    drawing.style.height = `${height}px`;
    const buttons = zoomed(drawing, inside, names, size, height, marks, stops);
    fxplain.rove(marks);

    const table = fxplain.behind("All nodes as a table", () => nodeTable(choose));
    const kinds = [...new Set(stops.map(kindOf))];
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
    choose(stops[0]);
    fxplain.onChange((changes) => "sample" in changes && choose(current));
    fxplain.onModeChange(() => map.repaint());
    return section;
  };

  const mark = (stop, lane, choose) => {
    const kind = kindOf(stop);
    const [cx, cy] = [x(stop.column), y(lane.get(stop.lane))];
    const shape = stop.is_route
      ? svg("rect", { x: cx - 10, y: cy - 10, width: 20, height: 20, transform: `rotate(45 ${cx} ${cy})` })
      : svg("circle", { cx, cy, r: RADIUS });
    const module = (stop.is_route ? data.graph.routes : data.graph.nodes)[stop.index].module;
    return svg(
      "g",
      { class: `mark ${kind}`, role: "button", "aria-label": `${fxplain.nodeTitle(stop)}, ${module || "the model itself"}`, "aria-pressed": "false", "data-index": stop.index, onclick: () => choose(stop) },
      svg("circle", { cx, cy, r: 21, class: "halo" }),
      shape,
    );
  };

  // What is written on a node: a letter for its kind, its number beneath.
  const writing = (stop, lane) => {
    const [cx, cy] = [x(stop.column), y(lane.get(stop.lane))];
    return [
      svg("text", { x: cx, y: cy + 4.5, class: "letter" }, LETTERS[kindOf(stop)] ?? "?"),
      stop.is_route ? "" : svg("text", { x: cx, y: cy + 33, class: "count" }, String(stop.index + 1)),
    ];
  };

  const rail = (each, stops, lane) => {
    const columns = stops.filter((stop) => stop.lane === each || stop.reads.includes(each)).map((stop) => stop.column);
    const own = stops.filter((stop) => stop.lane === each).map((stop) => stop.column);
    const made = stops.find((stop) => stop.is_route && stop.lane === each);
    const start = made ? made.column : 0.35;
    const line = y(lane.get(each));
    const done = Math.max(start + 0.5, ...own.map((column) => column + 0.6));
    const end = Math.max(...columns) - 0.45;
    return [
      svg("line", { class: "rail", x1: x(start), y1: line, x2: x(done), y2: line }),
      end > done ? svg("line", { class: "rail waiting", x1: x(done), y1: line, x2: x(end), y2: line }) : "",
      readsOut(each) ? svg("text", { class: "read-out", x: x(done) + 8, y: line + 4 }, "read out") : "",
      made ? "" : svg("line", { class: "rail", x1: x(start), y1: line - 7, x2: x(start), y2: line + 7 }),
    ];
  };

  // Whether the model's main output is read from a token of this stream.
  const readsOut = (each) =>
    data.graph.streams[each].modalities.some((name) => data.graph.readout.includes(`${name}[`));

  const links = (stop, lane) =>
    stop.reads.map((read) => {
      const [x1, y1] = [x(stop.column - 0.5), y(lane.get(read))];
      const [x2, y2] = [x(stop.column), y(lane.get(stop.lane))];
      const toward = y2 + Math.sign(y1 - y2) * RADIUS;
      return svg("g", { class: `link ${kindOf(stop)}` },
        svg("circle", { cx: x1, cy: y1, r: 3.5 }),
        svg("path", { d: `M${x1},${y1} C${x1},${(y1 + toward) / 2} ${x2},${(y1 + toward) / 2} ${x2},${toward}` }));
    });

  const laneName = (stream, k) => {
    const text = stream.modalities.length ? stream.modalities.join(" + ") : stream.name;
    return svg("g", { class: "lane-name", "data-lane": k }, svg("text", { x: 8, y: 0 }, `${text.length > 44 ? `${text.slice(0, 43)}\u2026` : text}, ${stream.tokens} tokens`));
  };

  const zoomed = (drawing, inside, names, size, height, marks, stops) => {
    const zoom = d3
      .zoom()
      .filter((event) => {
        if (event.type === "wheel") return event.ctrlKey || event.metaKey;
        return event.type.startsWith("touch") || (!event.button && event.type !== "dblclick");
      })
      .on("zoom", ({ transform }) => {
        inside.setAttribute("transform", transform);
        names.forEach((name, k) => name.setAttribute("transform", `translate(0 ${transform.applyY(y(k)) - 24 * Math.max(0.6, transform.k) - 4})`));
      });
    const selected = d3.select(drawing).call(zoom).on("dblclick.zoom", null);
    const fit = () => Math.min(1, (drawing.clientWidth || 600) / size.width, height / size.height);
    const begin = () => {
      const scale = Math.max(fit(), 0.62);
      drawing.style.height = `${Math.min(height, size.height * scale)}px`;
      zoom.extent([[0, 0], [drawing.clientWidth || 600, height]]).scaleExtent([Math.min(fit(), 0.62), 3]).translateExtent([[0, 0], [Math.max(size.width, (drawing.clientWidth || 600) / scale), Math.max(size.height, height / Math.min(1, scale))]]);
      selected.call(zoom.transform, d3.zoomIdentity.scale(scale));
    };
    fxplain.onResize(drawing, begin);
    marks.forEach((each, k) =>
      each.addEventListener("focus", () => {
        if (!each.matches(":focus-visible")) return;
        selected.call(zoom.translateTo, x(stops[k].column), y(0), [drawing.clientWidth / 2, 46]);
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
      data.graph.stops.filter((stop) => !stop.is_route).map((stop) => {
        const node = data.graph.nodes[stop.index];
        return [
          el("button", { type: "button", class: "plain", onclick: () => choose(stop) }, String(stop.index + 1)),
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
