// Ranking: the tokens with the largest numbers, over all modalities; and the answer they belong to.
{
  const { el, data } = fxplain;
  const MOST = 10;
  const several = (data.modalities ?? []).length > 1;

  fxplain.ranking = () => {
    const body = el("tbody");
    const caption = el("caption");
    const update = () => {
      const found = [];
      data.modalities.forEach((modality, m) => {
        const view = fxplain.view(m);
        if (view) found.push(...fxplain.entries(m, view).filter(({ value }) => value));
      });
      found.sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
      const most = found.length ? Math.abs(found[0].value) : 1;
      const total = found.reduce((sum, { value }) => sum + (Math.abs(value) || 0), 0);
      caption.textContent = `The largest: ${fxplain.viewName()}`;
      body.replaceChildren(...found.slice(0, MOST).map((each) => row(each, most, total)));
    };
    const heading = (text) => el("th", { scope: "col" }, text);
    const table = el(
      "table",
      { class: "ranking" },
      caption,
      el("thead", {}, el("tr", {}, ["token", ...(several ? ["input"] : []), "number", "share"].map(heading))),
      body,
    );
    fxplain.onChange(update);
    fxplain.onModeChange(update);
    return { element: table, update };
  };

  const row = (entry, most, total) => {
    const { m, i, value, error } = entry;
    const bar = el("span", { class: "bar" });
    bar.style.width = `${(100 * Math.abs(value)) / most}%`;
    bar.style.backgroundColor = fxplain.colour(value < 0 ? -0.6 : 0.6).formatHex();
    return el(
      "tr",
      {},
      el("td", {}, el("button", { type: "button", class: "plain", onclick: () => fxplain.pick(m, i) }, fxplain.inParts(fxplain.unitName(entry)))),
      several ? el("td", {}, el("code", {}, fxplain.inParts(data.modalities[m].name))) : null,
      el("td", { class: "number measured" }, bar, fxplain.number(value), error === null ? "" : ` \u00b1 ${fxplain.number(error)}`),
      el("td", { class: "number share" }, fxplain.signedPercent(value / total)),
    );
  };

  // ---- target, score and the classes beside it ----------------------------------------------------

  fxplain.answer = () => {
    const element = el("div", { class: "answer" });
    const update = () => {
      const sample = fxplain.ofSample();
      const { about, source, options, method, chosen } = fxplain.explanation();
      const facts = [
        ["Explained", el("strong", { class: "target" }, sample.target)],
        ["Score", `${fxplain.number(sample.score)}${data.outputs ? ` (${data.outputs.score})` : ""}`],
        ["Read from", el("code", {}, sample.readout)],
        ["Method", el("span", {}, el("strong", {}, method), about ? `: ${about}` : "", options.length ? ` (${options.join(", ")})` : "")],
      ];
      if (chosen) facts.push(["Chosen by auto", chosen]);
      if (source) facts.push(["Source", source]);
      if (sample.notes?.length) facts.push(["Note", el("ul", { class: "notes" }, sample.notes.map((text) => el("li", {}, text)))]);
      element.replaceChildren(
        el("dl", {}, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
        sample.classes ? classes(sample.classes) : el("p", { class: "note" }, "The output beside the explained number is not part of this report."),
      );
    };
    fxplain.onChange(update);
    return { element, update };
  };

  // All in a sentence that anybody can read.
  fxplain.headline = () => {
    const element = el("p", { class: "headline card", "aria-live": "polite" });
    const update = () => {
      element.replaceChildren(...fxplain.inParts(fxplain.ofSample().headlines[fxplain.state.hide ? "hide" : "show"]));
    };
    fxplain.onChange(update);
    update();
    return element;
  };

  const classes = ({ field, classes: count, shares, rows }) =>
    el(
      "table",
      { class: "ranking classes" },
      el("caption", {}, `Output ${field}: the top of ${count} classes`),
      el("thead", {}, el("tr", {}, ["class", "output", shares].map((text) => el("th", { scope: "col" }, text)))),
      el(
        "tbody",
        {},
        rows.map(({ index, name, value, share, target }) => {
          const bar = el("span", { class: "bar" });
          bar.style.width = `${100 * share}%`;
          return el(
            "tr",
            { class: target ? "target" : null },
            el("td", {}, name ? `${name} ` : "", el("span", { class: "muted" }, name ? `(${index})` : String(index)), target ? el("span", { class: "badge" }, "explained") : null),
            el("td", { class: "number" }, fxplain.number(value)),
            el("td", { class: "number measured" }, bar, fxplain.percent(share)),
          );
        }),
      ),
    );
}
