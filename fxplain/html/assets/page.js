// The page: its sections in order.
{
  const { el, data } = fxplain;
  const report = document.getElementById("report");

  const chooser = () => {
    const parts = [];
    if (data.explanations.length > 1) {
      parts.push(
        fxplain.choices("Method", data.explanations.map(({ title }, k) => [String(k), title]), "0",
          (value) => fxplain.change({ explanation: Number(value) })),
      );
    }
    if (data.samples.length > 1) {
      parts.push(
        fxplain.select("Sample", data.samples.map((_, k) => [String(k), `${k + 1} of ${data.samples.length}`]), "0",
          (value) => fxplain.change({ sample: Number(value), token: null, direction: "target" })),
      );
    }
    return parts.length ? el("div", { class: "chooser" }, parts) : null;
  };

  if (data.explanations) {
    const answer = fxplain.answer();
    const ranking = fxplain.ranking();
    const [only, ...more] = data.modalities;
    const alone = more.length === 0 && !fxplain.isLong(only);
    const inputs = fxplain.inputs(alone ? ranking.element : null);
    const matrices = fxplain.matrices();
    const top = chooser();
    report.append(
      ...(top ? [top] : []),
      fxplain.section("Answer", answer.element),
      inputs.section,
      ...(alone ? [] : [fxplain.section("Most relevant tokens", ranking.element)]),
      matrices.section,
      fxplain.graph(),
    );
    if (data.leftOut.length) {
      report.append(fxplain.section("Left out of this page", el("ul", {}, data.leftOut.map((text) => el("li", {}, text)))));
    }
    [answer, inputs, ranking, matrices].forEach((part) => part.update());
  } else {
    report.append(fxplain.graph());
  }
}
