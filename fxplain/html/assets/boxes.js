// Boxes: tokens that lie anywhere on a picture. The list beneath has the same tokens for the keyboard.
{
  const { el, svg } = fxplain;

  fxplain.boxes = (m, say) => {
    const input = fxplain.inputOf(m);
    const [picture] = input.photos?.urls ?? input.pictures ?? [];
    const [width, height] = input.photos?.placed[0].size ?? input.sizes?.[0] ?? [1, 1];
    const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
    const order = input.boxes.map((_, i) => i).sort((i, j) => area(input.boxes[j]) - area(input.boxes[i]));
    const rects = input.boxes.map(([x1, y1, x2, y2], i) =>
      svg("rect", {
        x: x1 * 100, y: y1 * 100, width: (x2 - x1) * 100, height: (y2 - y1) * 100,
        class: "box",
        onclick: () => fxplain.pick(m, i),
        onpointerenter: () => say(i),
        onpointerleave: () => say(null),
      }),
    );
    const drawing = svg(
      "svg",
      { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true", class: "over" },
      order.map((i) => rects[i]),
    );
    const image = picture
      ? el("img", { src: picture, alt: "", class: Math.max(width, height) < 64 ? "under pixelated" : "under" })
      : null;
    const tile = el("div", { class: "tile framed" }, image, drawing);
    tile.style.aspectRatio = `${width} / ${height}`;
    tile.style.maxWidth = `${Math.min(440, Math.max(160, (360 * width) / height))}px`;
    const list = fxplain.tokenList(m, input.labels.map((_, i) => i), (i) => input.labels[i] || String(i), () => false, "chips");
    const element = el("div", {}, tile, list.element);
    const update = (view, most) => {
      list.update(view, most);
      const read = new Set(fxplain.readFrom(m));
      rects.forEach((rect, i) => {
        const level = !view || !most || view.apart.includes(i) ? 0 : view.values[i] / most;
        const size = Math.min(1, Math.abs(level));
        const colour = fxplain.colour(level < 0 ? -0.45 - 0.3 * size : 0.45 + 0.3 * size).formatHex();
        rect.style.fill = colour;
        rect.style.fillOpacity = 0.78 * size;
        rect.style.stroke = colour;
        rect.style.strokeOpacity = 0.25 + 0.75 * size;
        rect.classList.toggle("picked", fxplain.isPicked(m, i));
        rect.classList.toggle("read", read.has(i));
      });
    };
    return { element, hover: list.hover, update, redraw: () => {} };
  };
}
