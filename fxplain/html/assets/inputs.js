// Inputs: a panel for each modality, and the choice of what they show.
{
  const { el, data } = fxplain;

  const drawing = (m, say) => {
    const { kind, count } = data.modalities[m];
    const input = fxplain.inputOf(m);
    if (kind === "grid") return fxplain.grid(m, say);
    if (kind === "boxes") return fxplain.boxes(m, say);
    if (kind === "strip") return fxplain.strip(m, say);
    const places = Array.from({ length: count }, (_, i) => i);
    if (kind === "tokens") return fxplain.tokenList(m, places, (i) => input.labels[i] || String(i), () => false, "chips");
    return fxplain.tokenList(m, places, (i) => input.words[i][0], (i) => input.words[i][1]);
  };

  const panel = (m) => {
    const modality = data.modalities[m];
    const status = el("p", { class: "status", "aria-live": "polite" });
    const share = el("span", { class: "share" });
    const legend = el("div", { class: "legend", role: "img" });
    let last = { view: null, most: 0 };
    let spoken = null;
    const say = (i) => {
      const { view } = last;
      spoken = i;
      status.textContent =
        i === null || i === undefined || !view
          ? ""
          : `${fxplain.tokenName(m, i)}: ${fxplain.number(view.values[i])}`;
    };
    const shown = drawing(m, say);
    shown.hover?.addEventListener("pointerover", (event) => {
      const option = event.target.closest("[data-place]");
      say(option ? Number(option.dataset.place) : null);
    });
    shown.hover?.addEventListener("focusin", (event) => say(Number(event.target.dataset.place)));
    const missing = el("p", { class: "note", hidden: true }, "This matrix is left out of the page, for its size.");
    const behind = fxplain.behind(`Numbers of ${modality.name}`, () => {
      const { view } = last;
      const rows = Array.from({ length: modality.count }, (_, i) => [
        String(i), fxplain.inputOf(m).labels[i], view ? view.values[i] : "\u2013",
      ]);
      return fxplain.table(["place", "token", "number"], rows, fxplain.viewName());
    });
    const id = fxplain.identity();
    const element = el(
      "section",
      { class: `panel ${modality.kind}${fxplain.isLong(modality) ? " wide" : ""}`, "aria-labelledby": id },
      el("h3", { id }, el("code", {}, modality.name), " ", share),
      shown.element,
      missing,
      status,
      legend,
      behind.details,
    );
    const update = (total) => {
      const view = fxplain.view(m);
      const most = view ? fxplain.largest(view.values, view.apart) : 0;
      last = { view, most };
      missing.hidden = view !== null;
      share.textContent = `${modality.count} token${modality.count === 1 ? "" : "s"}${view && total && data.modalities.length > 1 ? `, ${fxplain.percent(sum(view) / total)} of what is shown` : ""}`;
      legend.replaceChildren(...scale(view, most));
      legend.setAttribute("aria-label", view ? `Shades from ${view.values.some((v) => v < 0) ? fxplain.number(-most) : "0"} to ${fxplain.number(most)}` : "No shades");
      shown.update(view, most);
      say(spoken);
      behind.refresh();
    };
    return { element, update };
  };

  const sum = (view) =>
    view.values.reduce((total, value, i) => total + (view.apart.includes(i) ? 0 : Math.abs(value)), 0);

  const scale = (view, most) => {
    if (!view || !most) return [];
    const low = view.values.some((value) => value < 0) ? -1 : 0;
    const stops = [];
    for (let k = 0; k <= 10; k++) stops.push(fxplain.colour(low + ((1 - low) * k) / 10).formatHex());
    const bar = el("span", { class: "bar" });
    bar.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
    return [el("span", {}, low ? fxplain.number(-most) : "0"), bar, el("span", {}, fxplain.number(most))];
  };

  // beside: an element that stands beside a single panel, or null.
  fxplain.inputs = (beside) => {
    const holder = el("div", { class: "panels" });
    const title = el("p", { class: "showing", "aria-live": "polite" });
    const choices = el("div", { class: "showing-choices" });
    const note = el("p", { class: "note" });
    let panels = [];
    const build = () => {
      panels = data.modalities.map((_, m) => panel(m));
      holder.replaceChildren(...panels.map((each) => each.element), ...(beside ? [beside] : []));
    };
    const update = () => {
      const { token, direction } = fxplain.state;
      const able = fxplain.explanation().hasMatrices;
      title.replaceChildren("Shown: ", el("strong", {}, fxplain.viewName()));
      const options = [["target", "Relevance to the target"], ["row", "What it drew on"], ["column", "What drew on it"]];
      choices.replaceChildren(
        ...(token !== null && able
          ? [fxplain.choices(`Of ${fxplain.tokenName(token.m, token.i)}`, options, direction, (value) => fxplain.change({ direction: value })),
             el("button", { type: "button", onclick: () => fxplain.change({ token: null, direction: "target" }) }, "Clear")]
          : []),
      );
      note.textContent = able
        ? token === null
          ? "Choose a token to see what it drew on, and what drew on it."
          : ""
        : `The method ${fxplain.explanation().method} scores tokens and has no relevancy matrices: what a token drew on is not known.`;
      note.hidden = !note.textContent;
      const views = data.modalities.map((_, m) => fxplain.view(m));
      const total = views.reduce((all, view) => all + (view ? sum(view) : 0), 0);
      panels.forEach((each) => each.update(total));
    };
    build();
    fxplain.onChange((changes) => {
      if ("sample" in changes) build();
      update();
    });
    fxplain.onModeChange(update);
    const section = fxplain.section(
      "Input",
      el("div", { class: "showing-bar" }, title, choices),
      note,
      holder,
      el("p", { class: "key" },
        el("span", { class: "swatch read" }), "read out: the target is computed from this token ",
        el("span", { class: "swatch picked" }), "chosen"),
    );
    return { section, update };
  };
}
