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
    return fxplain.written(m);
  };

  // What each panel is called, and what it is said to show beside its tokens.
  const heading = (m) => (m === fxplain.text ? "Generated text" : el("code", {}, fxplain.inParts(data.modalities[m].name)));
  const counted = (m, share) => {
    const { count } = data.modalities[m];
    const part = share === null ? "" : `, ${share} of what is shown`;
    if (m !== fxplain.text) return `${count} token${count === 1 ? "" : "s"}${part}`;
    return share === null ? "" : `its earlier outputs: ${share} of what is shown`;
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
          : (fxplain.said(m, i) ?? shown.told?.(i) ?? `${fxplain.tokenName(m, i)}: ${fxplain.number(view.values[i])}`);
    };
    const shown = drawing(m, say);
    shown.hover?.addEventListener("pointerover", (event) => {
      const option = event.target.closest("[data-place]");
      say(option ? Number(option.dataset.place) : null);
    });
    shown.hover?.addEventListener("focusin", (event) => say(Number(event.target.dataset.place)));
    const together = m === fxplain.text ? fxplain.outputTokens(shown.hover) : null;
    const missing = el("p", { class: "note", hidden: true });
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
      { class: `panel${fxplain.isLong(modality) ? " wide" : ""}`, "aria-labelledby": id },
      el("h3", { id }, heading(m), " ", share),
      shown.element,
      together?.element ?? null,
      missing,
      status,
      legend,
      behind.details,
    );
    const update = (view, most, part) => {
      last = { view, most };
      missing.hidden = view !== null;
      missing.textContent = view === null ? fxplain.whyNoView() : "";
      share.textContent = counted(m, view && part !== null ? fxplain.percent(part) : null);
      together?.update();
      legend.replaceChildren(...scale(view, most), beyond(m, view, most));
      legend.setAttribute("aria-label", view ? `Shades from ${view.values.some((v) => v < 0) ? fxplain.number(-most) : "0"} to ${fxplain.number(most)}` : "No shades");
      shown.update(view, most);
      say(spoken);
      behind.refresh();
    };
    return { m, element, update };
  };

  // What gets the strongest shade of each modality: its own largest number, of words less where that would whiten
  // all others. Of a generated text and the words that it was written after it is one for all, so that they can be
  // compared.
  const scaled = (views) => {
    const words = views.map((view, m) => (view && fxplain.inputOf(m).units ? sizes(m, view) : null));
    const together = data.outputs ? fxplain.strongestShade(words.flatMap((own) => own ?? [])) : 0;
    return views.map((view, m) => {
      if (words[m]) return data.outputs ? together : fxplain.strongestShade(words[m]);
      return view ? fxplain.largest(view.values, view.apart) : 0;
    });
  };

  // Words are more than their pieces: what is compared is the largest word, or what else is shown.
  const sizes = (m, view) => fxplain.entries(m, view).map(({ value }) => Math.abs(value) || 0);

  const sum = (m, view) => fxplain.entries(m, view).reduce((total, { value }) => total + (Math.abs(value) || 0), 0);

  const scale = (view, most) => {
    if (!view || !most) return [];
    const low = view.values.some((value) => value < 0) ? -1 : 0;
    const stops = [];
    for (let k = 0; k <= 10; k++) stops.push(fxplain.colour(low + ((1 - low) * k) / 10).formatHex());
    const bar = el("span", { class: "bar" });
    bar.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
    return [el("span", {}, low ? fxplain.number(-most) : "0"), bar, el("span", {}, fxplain.number(most))];
  };

  // What is beyond the scale, by name.
  const beyond = (m, view, most) => {
    if (!view || !fxplain.inputOf(m).units) return "";
    const found = fxplain.entries(m, view).filter(({ value }) => Math.abs(value) > most * (1 + 1e-6));
    found.sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
    const told = found.slice(0, 3).map((entry) => `${fxplain.unitName(entry)} ${fxplain.number(entry.value)}`);
    const more = found.length > 3 ? `, and ${found.length - 3} more` : "";
    return found.length ? el("span", { class: "beyond" }, `beyond the scale: ${told.join(", ")}${more}`) : "";
  };

  const choosing = ({ legend, options, chosen, choose, clear }) => [
    fxplain.choices(legend, options, chosen, choose),
    clear ? el("button", { type: "button", onclick: clear }, "Clear") : "",
  ];

  // beside: an element that stands beside a single panel, or null.
  fxplain.inputs = (beside) => {
    const holder = el("div", { class: "panels" });
    const title = el("p", { class: "showing", "aria-live": "polite" });
    const choices = el("div", { class: "showing-choices" });
    const note = el("p", { class: "note on-screen" });
    const box = el("input", { type: "checkbox", checked: fxplain.state.hide });
    box.addEventListener("change", () => fxplain.change({ hide: box.checked }));
    const specialText = el("span", {});
    const special = el("label", { class: "leave-out" }, box, specialText);
    let panels = [];
    const build = () => {
      const order = data.modalities.map((_, m) => m);
      panels = (data.outputs ? [order.pop(), ...order] : order).map(panel);
      holder.replaceChildren(...panels.map((each) => each.element), ...(beside ? [beside] : []));
    };
    const update = () => {
      title.replaceChildren("Shown: ", el("strong", {}, fxplain.viewName()));
      const offered = fxplain.viewChoices();
      const focused = choices.contains(document.activeElement);
      choices.replaceChildren(...(offered ? choosing(offered) : []));
      if (focused) choices.querySelector("input:checked")?.focus();
      note.textContent = fxplain.viewNote();
      note.hidden = !note.textContent;
      const views = data.modalities.map((_, m) => fxplain.view(m));
      const share = fxplain.specialShare(views);
      special.hidden = share === null;
      const parked = data.modalities.some((_, m) => fxplain.sinks(m).length);
      specialText.textContent = `Leave out special tokens${parked ? " and the first word" : ""}${share === null ? "" : ` (${fxplain.percent(share)} of the relevance)`}`;
      const sums = views.length < 2 || views.includes(null) ? [] : views.map((view, m) => sum(m, view)); // shares of all, or none
      const total = sums.reduce((all, own) => all + own, 0);
      const scales = scaled(views);
      panels.forEach(({ m, update }) => update(views[m], scales[m], total ? sums[m] / total : null));
    };
    build();
    fxplain.onChange((changes) => {
      if ("sample" in changes) build();
      update();
    });
    fxplain.onModeChange(update);
    const section = fxplain.section(
      data.outputs ? "The text, and what it drew on" : "Input",
      el("div", { class: data.outputs ? "showing-bar steady" : "showing-bar" }, title, choices),
      note,
      holder,
      el("p", { class: "key" },
        el("span", { class: "swatch read" }), "read out: the target is computed from this token ",
        el("span", { class: "swatch picked" }), "chosen"),
      special,
    );
    return { section, update };
  };
}
