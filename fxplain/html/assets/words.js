// Words: a text as it was written, shaded by word, piece, sentence or what else it is cut into; and lists of
// tokens that have only a number.
{
  const { el, data, state } = fxplain;

  const option = (m, { places, text, joined = false, special = false }, choose) =>
    el(
      "span",
      {
        role: "option",
        class: `token${joined ? " joined" : ""}${special ? " special" : ""}`,
        "data-place": places[0],
        "data-places": places.join(","),
        onclick: choose,
      },
      text,
    );

  // The numbers of some places together; null where none of them can be compared with the others.
  const summed = (view, places) => {
    const compared = places.filter((i) => !view.apart.includes(i));
    return compared.length ? compared.reduce((sum, i) => sum + view.values[i], 0) : null;
  };

  const paint = (m, element, places, view, most) => {
    const read = new Set(fxplain.readFrom(m));
    const isRead = places.some((i) => read.has(i));
    const picked = places.some((i) => fxplain.isPicked(m, i));
    const value = view ? summed(view, places) : null;
    const colour = fxplain.colour(value === null || !most ? 0 : value / most);
    element.style.backgroundColor = colour.formatHex();
    element.style.color = fxplain.inkOn(colour);
    element.classList.toggle("read", isRead);
    element.classList.toggle("picked", picked);
    element.setAttribute("aria-selected", picked);
    const shown = value ?? (view ? view.values[places[0]] : NaN);
    element.setAttribute("data-value", shown);
    element.setAttribute("aria-label", `${element.textContent}: ${fxplain.number(shown)}${isRead ? ", read out" : ""}`);
  };

  // places: which tokens; text: what is written for each; joined: whether it goes on with the one before.
  fxplain.tokenList = (m, places, text, joined = () => false, style = "words") => {
    const hidden = new Set(fxplain.inputOf(m).padding ?? []);
    const shown = places.filter((i) => !hidden.has(i));
    const options = shown.map((i) => option(m, { places: [i], text: text(i), joined: joined(i) }, () => fxplain.pick(m, i)));
    fxplain.rove(options);
    const list = el(
      "div",
      { class: `tokens ${style}`, role: "listbox", "aria-label": `Tokens of ${data.modalities[m].name}` },
      options,
    );
    const element = el("div", {}, list, paddingNote(places.length - shown.length));
    const update = (view, most) => shown.forEach((i, k) => paint(m, options[k], [i], view, most));
    return { element, hover: list, update };
  };

  const paddingNote = (left) =>
    left ? el("p", { class: "note" }, `${left} token${left === 1 ? "" : "s"} of padding not shown.`) : null;

  // ---- texts --------------------------------------------------------------------------------------

  const NAMES = { word: "Words", token: "Pieces", sentence: "Sentences", line: "Lines", passage: "Passages", parts: "Parts" };

  const unitOf = (m) => {
    const { units, asked } = fxplain.inputOf(m);
    const chosen = state.by[m] ?? asked ?? data.units;
    return chosen in units ? chosen : "word";
  };

  // How modality m is cut: [{text, gap, places, special}], padding left out.
  fxplain.unitsOf = (m) => {
    const input = fxplain.inputOf(m);
    const hidden = new Set(input.padding ?? []);
    const key = unitOf(m);
    return fxplain.cached(`u ${state.sample} ${m} ${key}`, () =>
      input.units[key]
        .map(([text, gap, places, special]) => ({ text, gap, special, places: places.filter((i) => !hidden.has(i)) }))
        .filter(({ places }) => places.length));
  };

  // Whether a unit is a special token, or a word on which attention is parked.
  fxplain.sinks = (m) => fxplain.ofSample().sinks?.[m] ?? [];
  fxplain.isLeftOut = (m, { special, places }) => special || fxplain.sinks(m).includes(places[0]);

  const errorOf = ({ errors }, places) => (errors ? places.reduce((sum, i) => sum + errors[i], 0) : null);

  // What is ranked and scaled of modality m: {m, i, places, text, value, error}, special tokens where they are shown.
  fxplain.entries = (m, view) => {
    const { count } = data.modalities[m];
    const special = fxplain.special(m);
    const { units: cuts, regions } = fxplain.inputOf(m);
    const together = regions?.map(([text, gap, places, special]) => ({ text, gap, places, special }));
    const units = cuts
      ? fxplain.unitsOf(m)
      : together ?? Array.from({ length: count }, (_, i) => ({ places: [i], special: i in special }));
    return units
      .filter((unit) => !(state.hide && fxplain.isLeftOut(m, unit)))
      .map((unit) => ({ ...unit, m, i: unit.places[0], value: summed(view, unit.places), error: errorOf(view, unit.places) }))
      .filter(({ value }) => value !== null);
  };

  // White space that is all of a word, by signs.
  const signs = (text) => text.replace(/[\u21b5\u240d]?\r?\n/g, "\u21b5").replace(/\t/g, "\u21e5").replace(/ /g, "\u2423");

  fxplain.unitName = ({ m, i, places, text }) => {
    if (!text || m === fxplain.text) return fxplain.tokenName(m, i);
    return `\u201c${text.trim() || signs(text)}\u201d (${places.length === 1 ? `token ${i}` : `${places.length} tokens`})`;
  };

  // The share of all that special tokens have, or null where there are none.
  fxplain.specialShare = (views) => {
    let [special, all] = [0, 0];
    views.forEach((view, m) => {
      if (!view) return;
      const before = state.hide;
      state.hide = false;
      for (const entry of fxplain.entries(m, view)) {
        all += Math.abs(entry.value);
        if (fxplain.isLeftOut(m, entry)) special += Math.abs(entry.value);
      }
      state.hide = before;
    });
    return special && all ? special / all : null;
  };

  // A text as it was written, in its own direction.
  fxplain.written = (m, say) => {
    const input = fxplain.inputOf(m);
    const list = el("div", {
      class: "tokens written", role: "listbox", dir: input.direction,
      "aria-label": `Text of ${data.modalities[m].name}`,
    });
    const open = new Set();
    let drawn = [];
    let built = "";
    let last = { view: null, most: 0 };
    const choose = (unit) => {
      if (unit.places.length === 1) return fxplain.pick(m, unit.places[0]);
      open.add(unit.places[0]);
      built = "";
      update(last.view, last.most);
      list.querySelector(`[data-place="${unit.places[0]}"]`)?.focus();
    };
    const pieces = (unit) =>
      unit.places.map((i, k) => ({ places: [i], text: input.words[i][0], joined: k > 0, gap: k ? "" : unit.gap, special: unit.special }));
    const build = () => {
      const units = fxplain.unitsOf(m).filter((unit) => !(state.hide && fxplain.isLeftOut(m, unit)));
      drawn = units.flatMap((unit) => (open.has(unit.places[0]) && unit.places.length > 1 ? pieces(unit) : [unit]));
      drawn = drawn.map((unit) => ({ ...unit, element: option(m, unit, () => choose(unit)) }));
      fxplain.rove(drawn.map(({ element }) => element));
      list.replaceChildren(...drawn.flatMap(({ gap, element }) => (gap ? [gap, element] : [element])));
    };
    const update = (view, most) => {
      const key = `${state.explanation} ${unitOf(m)} ${state.hide} ${[...open]}`;
      if (!built || key !== built) build();
      built = key;
      last = { view, most };
      drawn.forEach(({ element, places }) => paint(m, element, places, view, most));
    };
    const offered = Object.keys(NAMES).filter((name) => name in input.units);
    const cut = offered.length > 1
      ? fxplain.choices("By", offered.map((name) => [name, NAMES[name]]), unitOf(m), (name) => {
          open.clear();
          fxplain.change({ by: { ...state.by, [m]: name } });
        })
      : null;
    const hidden = new Set(input.padding ?? []).size;
    const element = el("div", {}, list, cut ? el("div", { class: "cut" }, cut) : null, paddingNote(hidden));
    const told = (i) => {
      const unit = drawn.find(({ places }) => places.includes(i));
      const value = unit && last.view ? summed(last.view, unit.places) : null;
      return unit && unit.places.length > 1 && value !== null
        ? `\u201c${unit.text.trim()}\u201d (${unit.places.length} tokens together): ${fxplain.number(value)}`
        : null;
    };
    return { element, hover: list, update, told };
  };
}
