// Grid: tokens that lie on a picture (or on nothing but their grid), as a heat map over it.
{
  const { el } = fxplain;
  const WIDEST = 440;
  const WIDEST_PHOTO = 720;

  fxplain.grid = (m, say) => {
    const modality = fxplain.data.modalities[m];
    const input = fxplain.inputOf(m);
    const tiles = fxplain.tiles(m);
    const places = fxplain.plain(m);
    const local = { cursor: null, smooth: false, strength: 0.75 };
    let shown = { view: null, most: 0 };

    const drawn = tiles.map((one, t) =>
      tile(m, {
        ...one, places, local, say, redraw: () => redraw(),
        picture: input.pictures?.[t], size: input.sizes?.[t], photo: input.photos?.placed[t],
      }),
    );
    const redraw = () => drawn.forEach((each) => each.draw(shown));
    const special = Object.keys(fxplain.special(m)).map(Number);
    const list = special.length
      ? fxplain.tokenList(m, special, (i) => input.labels[i], () => false, "chips")
      : null;

    // Of a spectrogram the recording; the needle is of what time runs to the right on.
    const player = input.sound ? fxplain.player(input.sound, modality.name) : null;
    if (player && tiles.length === 1) drawn[0].element.append(player.needle);
    const element = el(
      "div",
      {},
      el("div", { class: tiles.length > 1 ? "tiles" : "" }, drawn.map((each) => each.element)),
      player ? player.element : null,
      controls(local, redraw, Boolean(input.pictures || input.photos)),
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

  const placed = (element, [left, top, right, bottom]) => {
    const percent = (part) => `${100 * part}%`;
    Object.assign(element.style, {
      inset: "auto", left: percent(left), top: percent(top), width: percent(right - left), height: percent(bottom - top),
    });
  };

  // What the processor cut off a photo: veiled, with lines across it.
  const crossedOut = (context, [w, h], [x, y, wide, high], [left, top, right, bottom]) => {
    context.save();
    context.beginPath();
    context.rect(left * w, top * h, (right - left) * w, (bottom - top) * h);
    context.rect(x, y, wide, high);
    context.clip("evenodd");
    context.fillStyle = "rgb(255 255 255 / 0.55)";
    context.fillRect(0, 0, w, h);
    context.strokeStyle = "rgb(0 0 0 / 0.55)";
    context.lineWidth = 1;
    for (let at = -h; at < w; at += 9) {
      context.beginPath();
      context.moveTo(at, h);
      context.lineTo(at + h, 0);
      context.stroke();
    }
    context.restore();
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

  // photo: of tokens on a photo that was given, where it and they lie in a frame around both.
  const tile = (m, { name: part, offset, rows, columns, places, local, say, redraw, picture, size, photo }) => {
    const name = fxplain.data.modalities[m].name;
    const [width, height] = photo?.size ?? size ?? [columns, rows];
    const [left, top, right, bottom] = photo?.heat ?? [0, 0, 1, 1];
    const widest = photo ? WIDEST_PHOTO : WIDEST;
    const canvas = el("canvas", {
      tabindex: "0",
      role: "application",
      "aria-roledescription": "token grid",
      "aria-label": `${name}${part ? `, ${part}` : ""}: ${rows} by ${columns} tokens, shaded by relevance. Arrow keys move, Enter chooses; the table below has the numbers.`,
    });
    const url = photo ? fxplain.inputOf(m).photos.urls[photo.photo] : picture;
    const small = Math.max(width, height) < 64 ? " pixelated" : "";
    const image = url ? el("img", { src: url, alt: "", class: `under${photo ? small : ""}` }) : null;
    if (photo) placed(image, photo.shown);
    const element = el("div", { class: photo ? "tile margin" : "tile" }, image, canvas);
    element.style.aspectRatio = `${width} / ${height}`;
    const own = photo ? Math.max(width, 240) : widest;
    element.style.maxWidth = `${Math.min(widest, own, Math.max(160, (widest * width) / height))}px`;

    const placeAt = (event) => {
      const box = canvas.getBoundingClientRect();
      const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      const column = Math.floor(((x - left) / (right - left)) * columns);
      const row = Math.floor(((y - top) / (bottom - top)) * rows);
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
      const area = [left * w, top * h, (right - left) * w, (bottom - top) * h];
      if (photo?.cut) crossedOut(context, [w, h], area, photo.shown);
      if (view) {
        const small = fxplain.pixels(columns, rows, (k) => {
          const i = places[offset + k];
          const level = view.apart.includes(i) || !most ? 0 : view.values[i] / most;
          const size = Math.min(1, Math.abs(level));
          const { r, g, b } = fxplain.colour(url ? Math.sign(level) * (0.5 + 0.3 * size) : level);
          return [r, g, b, url ? 255 * local.strength * size : 255];
        });
        context.imageSmoothingEnabled = local.smooth;
        context.drawImage(small, ...area);
      }
      const outline = (place, colour, width) => {
        if (place < offset || place >= offset + rows * columns) return;
        const [row, column] = [Math.floor((place - offset) / columns), (place - offset) % columns];
        context.strokeStyle = colour;
        context.lineWidth = width;
        const [x, y, wide, high] = area;
        context.strokeRect(
          x + (column * wide) / columns + 1, y + (row * high) / rows + 1, wide / columns - 2, high / rows - 2,
        );
      };
      fxplain.readFrom(m).forEach((i) => outline(places.indexOf(i), fxplain.css("--read"), 3));
      if (local.cursor !== null) outline(local.cursor, fxplain.css("--focus"), 3);
      const { token } = fxplain.state;
      if (token?.m === m) outline(places.indexOf(token.i), fxplain.css("--picked"), 4);
    };
    fxplain.onResize(element, redraw);
    const caption = [part, photo?.said].filter(Boolean).join(". ");
    const whole = part === "put together" || photo?.wide;
    const named = caption ? el("figure", { class: whole ? "whole" : null }, element, el("figcaption", {}, caption)) : element;
    return { element: named, draw };
  };
}
