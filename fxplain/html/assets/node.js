// Node: what there is to say of one attention node or route, with its map where the page has it.
{
  const { el, data } = fxplain;

  const facts = (pairs) =>
    el("dl", {}, pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));

  const code = (text) => el("code", {}, text || "-");

  fxplain.nodeTitle = ({ index, kind }) => {
    if (kind === "route") return `Route: ${data.graph.routes[index].operation}`;
    return `Node ${index + 1}: ${kind === "self" ? "self-attention" : `${kind} attention`}`;
  };

  // The modality whose tokens stand on an axis of a node's map, if it is one and whole.
  const axisOf = (names, size, fallback) => {
    const m = (data.modalities ?? []).findIndex((modality) => names.length === 1 && modality.name === names[0]);
    return m >= 0 && data.modalities[m].count === size
      ? fxplain.axis(m)
      : { name: names.join(" + ") || fallback, label: String };
  };

  fxplain.nodeDetails = (map) => ({ index, kind }) => {
    if (kind === "route") {
      const route = data.graph.routes[index];
      return el("div", {}, facts([
        ["Operation", code(route.operation)],
        ["Module", code(route.module)],
        ["Makes", code(route.target)],
        ["From", code(route.source.join(", "))],
      ]), el("p", { class: "note" }, "A route mixes tokens by fixed weights: pooling, merging, a convolution."));
    }
    const node = data.graph.nodes[index];
    const matrix = data.samples ? fxplain.nodeMap(index) : null;
    const details = el("div", { class: "node" }, facts([
      ["Module", code(node.module)],
      ["Queries", code(node.query.join(", "))],
      ["Keys", code(node.key.join(", "))],
      ["Heads", String(node.heads)],
      ["Size", `${node.q_len} queries \u00d7 ${node.k_len} keys`],
      ["Computed as", node.form.replace("_", " ")],
    ]));
    if (matrix) {
      details.append(el("div", {}, el("div", { class: "matrix-bar" }, el("p", { class: "note" }, "Its attention, heads averaged"), map.buttons), map.element));
      map.show(matrix, {
        rows: axisOf(node.query, matrix.rows, "queries"),
        columns: axisOf(node.key, matrix.columns, "keys"),
      });
    }
    const missing = data.samples ? node.missing : "This page is of the graph alone: the page of an explanation has the map.";
    if (!matrix && missing) details.append(el("p", { class: "note" }, missing));
    return details;
  };
}
