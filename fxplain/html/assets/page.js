// The page: its sections in order.
{
  const { el, data } = fxplain;
  const LIST_FROM = 3; // of more samples than this there is a list
  const report = document.getElementById("report");

  const choose = (sample) =>
    fxplain.change({ sample, token: null, direction: "target", output: 0, preview: null });

  const chooser = () => {
    const parts = [];
    if (data.explanations?.length > 1) {
      parts.push(
        fxplain.choices(new Set(data.explanations.map(({ method }) => method)).size > 1 ? "Method" : "Explained", data.explanations.map(({ title }, k) => [String(k), title]), "0",
          (value) => fxplain.change({ explanation: Number(value) })),
      );
    }
    if (data.samples.length > 1) {
      const select = fxplain.select(
        "Sample", data.samples.map((_, k) => [String(k), `${k + 1} of ${data.samples.length}`]), "0", (value) => choose(Number(value)),
      );
      const step = (by, name) =>
        el("button", { type: "button", "aria-label": name, onclick: () => choose((fxplain.state.sample + by + data.samples.length) % data.samples.length) }, by < 0 ? "\u2039" : "\u203a");
      fxplain.onChange(() => (select.querySelector("select").value = String(fxplain.state.sample)));
      parts.push(el("div", { class: "buttons" }, select, step(-1, "Previous"), step(1, "Next")));
    }
    return parts.length ? el("div", { class: "chooser" }, parts) : null;
  };

  const leftOut = () => {
    if (!data.leftOut.length) return;
    report.append(fxplain.section("Left out of this page", el("ul", {}, data.leftOut.map((text) => el("li", {}, text)))));
  };

  if (data.outputs) {
    const [inputs, ranking, answer, matrix] = [fxplain.inputs(null), fxplain.ranking(), fxplain.answer(), fxplain.outputs()];
    const top = chooser();
    report.append(
      ...(top ? [top] : []),
      inputs.section,
      matrix.section,
      fxplain.section("Chosen output", el("div", { class: "side-by-side" }, answer.element, ranking.element)),
      fxplain.graph(),
    );
    leftOut();
    [inputs, answer, ranking, matrix].forEach((part) => part.update());
  } else if (data.explanations) {
    const answer = fxplain.answer();
    const ranking = fxplain.ranking();
    const [only, ...more] = data.modalities;
    const alone = more.length === 0 && !fxplain.isLong(only);
    const inputs = fxplain.inputs(alone ? ranking.element : null);
    const matrices = fxplain.matrices();
    const top = chooser();
    report.append(
      ...(top ? [top] : []),
      ...(data.samples.length > LIST_FROM ? [fxplain.samples(choose)] : []),
      fxplain.headline(),
      inputs.section,
      ...(alone ? [] : [fxplain.section("Most relevant tokens", ranking.element)]),
      fxplain.section("Answer", answer.element),
      matrices.section,
      fxplain.graph(),
    );
    leftOut();
    [answer, inputs, ranking, matrices].forEach((part) => part.update());
  } else {
    report.append(fxplain.graph());
  }
}
