// Grid: tokens that lie on a picture (or on nothing but their grid), as a heat map over it.
{
  const { el } = fxplain;
  const WIDEST = 440;

  fxplain.grid = (m, say) => {
    const modality = fxplain.data.modalities[m];
    const input = fxplain.inputOf(m);
    const { tiles } = modality;
    const places = fxplain.plain(m);
    const local = { cursor: null, smooth: false, strength: 0.75 };
    let shown = { view: null, most: 0 };

    const drawn = tiles.map((one, t) =>
      tile(m, { ...one, places, local, say, redraw: () => redraw(), picture: input.pictures?.[t], size: input.sizes?.[t] }),
    );
    const redraw = () => drawn.forEach((each) => each.draw(shown));
    const special = Object.keys(modality.special).map(Number);
    const list = special.length
      ? fxplain.tokenList(m, special, (i) => input.labels[i], () => false, "chips")
      : null;

    const element = el(
      "div",
      {},
      el("div", { class: tiles.length > 1 ? "tiles" : "" }, drawn.map((each) => each.element)),
      controls(local, redraw, Boolean(input.pictures)),
      list ? el("p", { class: "note" }, "Tokens beside the grid:") : null,
      list ? list.element : null,
    );
    const update = (view, most) => {
      shown = { view, most };
      redraw();
      list?.update(view, most);
    };
    return { element, update, redraw };
  };

  const controls = (local, redraw, hasPicture) => {
    const smooth = el("input", { type: "checkbox" });
    smooth.addEventListener("change", () => {
      local.smooth = smooth.checked;
      redraw();
    });
    const strength = el("input", { type: "range", min: "0", max: "100", value: "75" });
    strength.addEventListener("input", () => {
      local.strength = strength.value / 100;
      redraw();
    });
    return el(
      "div",
      { class: "controls" },
      hasPicture ? el("label", {}, "Heat map", strength) : null,
      el("label", {}, smooth, "Smooth"),
    );
  };

  const tile = (m, { name: part, offset, rows, columns, places, local, say, redraw, picture, size }) => {
    const name = fxplain.data.modalities[m].name;
    const [width, height] = size ?? [columns, rows];
    const canvas = el("canvas", {
      tabindex: "0",
      role: "application",
      "aria-roledescription": "token grid",
      "aria-label": `${name}${part ? `, ${part}` : ""}: ${rows} by ${columns} tokens, shaded by relevance. Arrow keys move, Enter chooses; the table below has the numbers.`,
    });
    const image = picture ? el("img", { src: picture, alt: "", class: "under" }) : null;
    const element = el("div", { class: "tile" }, image, canvas);
    element.style.aspectRatio = `${width} / ${height}`;
    element.style.maxWidth = `${Math.min(WIDEST, Math.max(160, (WIDEST * width) / height))}px`;

    const placeAt = (event) => {
      const box = canvas.getBoundingClientRect();
      const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
      const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
      const inside = column >= 0 && column < columns && row >= 0 && row < rows;
      return inside ? offset + row * columns + column : null;
    };
    canvas.addEventListener("pointermove", (event) => {
      const place = placeAt(event);
      if (place !== null) say(places[place]);
    });
    canvas.addEventListener("pointerleave", () => say(null));
    canvas.addEventListener("click", (event) => {
      const place = placeAt(event);
      if (place !== null) fxplain.pick(m, places[place]);
    });
    canvas.addEventListener("focus", () => {
      if (local.cursor === null || (local.cursor < offset || local.cursor >= offset + rows * columns)) local.cursor = offset;
      redraw();
    });
    canvas.addEventListener("blur", () => {
      local.cursor = null;
      redraw();
    });
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    fxplain.cursorKeys(canvas, steps, (step) => {
      const to = local.cursor + step;
      if (to >= offset && to < offset + rows * columns) local.cursor = to;
      say(places[local.cursor]);
      redraw();
    }, () => fxplain.pick(m, places[local.cursor]));

    const draw = ({ view, most }) => {
      const [w, h] = [element.clientWidth, element.clientHeight];
      if (!w || !h) return;
      const context = fxplain.sized(canvas, w, h);
      context.clearRect(0, 0, w, h);
      if (view) {
        const small = fxplain.pixels(columns, rows, (k) => {
          const i = places[offset + k];
          const level = view.apart.includes(i) || !most ? 0 : view.values[i] / most;
          const size = Math.min(1, Math.abs(level));
          const { r, g, b } = fxplain.colour(picture ? Math.sign(level) * (0.5 + 0.3 * size) : level);
          return [r, g, b, picture ? 255 * local.strength * size : 255];
        });
        context.imageSmoothingEnabled = local.smooth;
        context.drawImage(small, 0, 0, w, h);
      }
      const outline = (place, colour, width) => {
        if (place < offset || place >= offset + rows * columns) return;
        const [row, column] = [Math.floor((place - offset) / columns), (place - offset) % columns];
        context.strokeStyle = colour;
        context.lineWidth = width;
        context.strokeRect(
          (column * w) / columns + 1, (row * h) / rows + 1, w / columns - 2, h / rows - 2,
        );
      };
      fxplain.readFrom(m).forEach((i) => outline(places.indexOf(i), fxplain.css("--read"), 3));
      if (local.cursor !== null) outline(local.cursor, fxplain.css("--focus"), 3);
      const { token } = fxplain.state;
      if (token?.m === m) outline(places.indexOf(token.i), fxplain.css("--picked"), 4);
    };
    fxplain.onResize(element, redraw);
    const named = part ? el("figure", { class: part === "put together" ? "whole" : null }, element, el("figcaption", {}, part)) : element;
    return { element: named, draw };
  };
}
