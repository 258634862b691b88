// Strip: tokens that follow each other in time, as bars under a picture of the sound or the features.
{
  const { el } = fxplain;
  const HEIGHT = 72;

  fxplain.strip = (m, say) => {
    const modality = fxplain.data.modalities[m];
    const input = fxplain.inputOf(m);
    const places = fxplain.plain(m);
    const count = places.length;
    let shown = { view: null, most: 0 };
    let cursor = null;
    const canvas = el("canvas", {
      tabindex: "0",
      role: "application",
      "aria-roledescription": "strip of tokens",
      "aria-label": `${modality.name}: ${count} tokens in time, as bars. Arrow keys move, Enter chooses; the table below has the numbers.`,
    });
    const [picture] = input.pictures ?? [];
    const under = picture
      ? el("img", { src: picture, alt: `What the model was given as ${modality.name}, over time`, class: "over-time" })
      : null;
    const special = Object.keys(fxplain.special(m)).map(Number);
    const list = special.length
      ? fxplain.tokenList(m, special, (i) => input.labels[i], () => false, "chips")
      : null;
    const player = input.sound ? fxplain.player(input.sound, modality.name) : null;
    const over = el("div", { class: "tile-strip" }, under, canvas, player ? player.needle : null);
    const element = el("div", { class: "strip" }, over, player ? player.element : null, list ? list.element : null);

    const draw = () => {
      const w = canvas.clientWidth;
      if (!w) return;
      const context = fxplain.sized(canvas, w, HEIGHT);
      context.clearRect(0, 0, w, HEIGHT);
      const { view, most } = shown;
      const zero = view && view.values.some((value) => value < 0) ? HEIGHT / 2 : HEIGHT;
      const tall = zero - 4;
      const read = new Set(fxplain.readFrom(m));
      places.forEach((i, k) => {
        const [left, wide] = [(k * w) / count, w / count];
        if (view && !view.apart.includes(i) && most) {
          const level = view.values[i] / most;
          context.fillStyle = fxplain.colour(Math.sign(level) * (0.35 + 0.65 * Math.abs(level))).formatHex();
          context.fillRect(left, zero, Math.max(1, wide - (wide > 4 ? 1 : 0)), -level * tall);
        }
        const mark = fxplain.isPicked(m, i) ? "--picked" : read.has(i) ? "--read" : k === cursor ? "--focus" : null;
        if (mark) {
          context.strokeStyle = fxplain.css(mark);
          context.lineWidth = 2;
          context.strokeRect(left + 1, 1, Math.max(2, wide - 2), HEIGHT - 2);
        }
      });
    };
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return Math.max(0, Math.min(count - 1, Math.floor(((event.clientX - box.left) / box.width) * count)));
    };
    canvas.addEventListener("pointermove", (event) => say(places[at(event)]));
    canvas.addEventListener("pointerleave", () => say(null));
    canvas.addEventListener("click", (event) => {
      player?.seek(at(event) / count);
      fxplain.pick(m, places[at(event)]);
    });
    canvas.addEventListener("focus", () => {
      cursor ??= 0;
      draw();
    });
    fxplain.cursorKeys(canvas, { ArrowLeft: -1, ArrowRight: 1 }, (step) => {
      cursor = Math.max(0, Math.min(count - 1, (cursor ?? 0) + step));
      say(places[cursor]);
      draw();
    }, () => fxplain.pick(m, places[cursor ?? 0]));
    fxplain.onResize(canvas, draw);
    const update = (view, most) => {
      shown = { view, most };
      draw();
      list?.update(view, most);
    };
    return { element, update, redraw: draw };
  };
}
