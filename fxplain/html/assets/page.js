// The page: its sections in order.
{
  const { el, data } = fxplain;
  const report = document.getElementById("report");

  const chooser = () => {
    const parts = [];
    if (data.explanations?.length > 1) {
      parts.push(
        fxplain.choices("Method", data.explanations.map(({ title }, k) => [String(k), title]), "0",
          (value) => fxplain.change({ explanation: Number(value) })),
      );
    }
    if (data.samples.length > 1) {
      const start = { token: null, direction: "target", output: 0, preview: null };
      parts.push(
        fxplain.select("Sample", data.samples.map((_, k) => [String(k), `${k + 1} of ${data.samples.length}`]), "0",
          (value) => fxplain.change({ sample: Number(value), ...start })),
      );
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
