// Words: tokens in reading order, each shaded by its number. Also used for tokens that have only a number.
{
  const { el } = fxplain;

  // places: which tokens; text: what is written for each; joined: whether it goes on with the one before.
  fxplain.tokenList = (m, places, text, joined = () => false, style = "words") => {
    const hidden = new Set(fxplain.inputOf(m).padding ?? []);
    const shown = places.filter((i) => !hidden.has(i));
    const options = shown.map((i) =>
      el(
        "span",
        {
          role: "option",
          class: joined(i) ? "token joined" : "token",
          "data-place": i,
          onclick: () => fxplain.pick(m, i),
        },
        text(i),
      ),
    );
    fxplain.rove(options);
    const list = el(
      "div",
      { class: `tokens ${style}`, role: "listbox", "aria-label": `Tokens of ${fxplain.data.modalities[m].name}` },
      options,
    );
    const left = places.length - shown.length;
    const element = el(
      "div",
      {},
      list,
      left ? el("p", { class: "note" }, `${left} token${left === 1 ? "" : "s"} of padding not shown.`) : null,
    );
    return { element, hover: list, update: (view, most) => update(m, shown, options, view, most) };
  };

  const update = (m, shown, options, view, most) => {
    const read = new Set(fxplain.readFrom(m));
    shown.forEach((i, k) => {
      const value = view ? view.values[i] : NaN;
      const apart = view?.apart.includes(i);
      const colour = fxplain.colour(apart || !view || !most ? 0 : value / most);
      const option = options[k];
      option.style.backgroundColor = colour.formatHex();
      option.style.color = fxplain.inkOn(colour);
      option.classList.toggle("read", read.has(i));
      option.classList.toggle("picked", fxplain.isPicked(m, i));
      option.setAttribute("aria-selected", fxplain.isPicked(m, i));
      option.setAttribute("data-value", value);
      const role = read.has(i) ? ", read out" : "";
      option.setAttribute("aria-label", `${option.textContent}: ${fxplain.number(value)}${role}`);
    });
  };
}
