// Explained: of explanations, the numbers that each modality shows and what a choice of a token does.
if (fxplain.data.explanations) {
  const { data, state, cached } = fxplain;
  const TARGET = { token: null, direction: "target" };

  fxplain.explanation = () => data.explanations[state.explanation];
  fxplain.ofSample = () => fxplain.explanation().samples[state.sample];

  // Relevance beside the identity: of a mean over many tokens, which each carry a share of it.
  const relevance = (m) =>
    cached(`r ${state.explanation} ${state.sample} ${m}`, () => {
      const { relevance, identity } = fxplain.ofSample();
      const values = fxplain.vector(relevance[m]);
      const own = identity[m] && fxplain.vector(identity[m]);
      return own ? values.map((value, i) => value - own[i]) : values;
    });

  // How far each number may be off, where something was drawn; else null.
  const errors = (m) => {
    const packed = fxplain.ofSample().errors?.[m];
    return packed ? cached(`e ${state.explanation} ${state.sample} ${m}`, () => fxplain.vector(packed)) : null;
  };

  // The relevancy matrix of the chosen explanation and sample, or null where the page has none.
  fxplain.relevancies = (a, b) => {
    const packed = fxplain.ofSample().matrices[`${a},${b}`];
    if (!packed) return null;
    return cached(`m ${state.explanation} ${state.sample} ${a} ${b}`, () => fxplain.matrix(packed));
  };

  const ofTarget = () =>
    state.token === null || state.direction === "target" || !fxplain.explanation().hasMatrices;

  // What is shown on modality m: its numbers, and the places that are left out of the shades since they
  // start from the identity (the readout itself, the chosen token itself); null where it is not known.
  fxplain.view = (m) => {
    const { token, direction } = state;
    if (ofTarget()) return { values: relevance(m), apart: fxplain.ofSample().apart[m], errors: errors(m) };
    const matrix = direction === "row" ? fxplain.relevancies(token.m, m) : fxplain.relevancies(m, token.m);
    if (matrix === null) return null;
    return {
      values: (direction === "row" ? fxplain.row : fxplain.column)(matrix, token.i),
      apart: m === token.m ? [token.i] : [],
    };
  };
  fxplain.whyNoView = () => "This matrix is left out of the page, for its size.";

  // The token that the target is read from. A mean over many spreads the identity and does no harm.
  fxplain.readFrom = (m) => {
    const read = fxplain.ofSample().read[m];
    return read.length === 1 ? read : [];
  };

  fxplain.pick = (m, i) => {
    if (fxplain.isPicked(m, i)) fxplain.change(TARGET);
    else fxplain.change({ token: { m, i }, direction: state.direction === "target" ? "row" : state.direction });
  };
  fxplain.isPicked = (m, i) => state.token !== null && state.token.m === m && state.token.i === i;

  fxplain.viewName = () => {
    if (ofTarget()) return "relevance to the target";
    const { token, direction } = state;
    const name = `${fxplain.tokenName(token.m, token.i)} of ${data.modalities[token.m].name}`;
    return direction === "row" ? `what ${name} drew on` : `what drew on ${name}`;
  };

  // The choices that there are of what is shown: {legend, options, chosen, choose, clear}, or null.
  fxplain.viewChoices = () => {
    const { token, direction } = state;
    if (token === null || !fxplain.explanation().hasMatrices) return null;
    return {
      legend: `Of ${fxplain.tokenName(token.m, token.i)}`,
      options: [["target", "Relevance to the target"], ["row", "What it drew on"], ["column", "What drew on it"]],
      chosen: direction,
      choose: (value) => fxplain.change({ direction: value }),
      clear: () => fxplain.change(TARGET),
    };
  };

  fxplain.said = () => null;

  fxplain.viewNote = () => {
    const { hasMatrices, method } = fxplain.explanation();
    if (!hasMatrices) return `${method} tells what the target drew on, and not what each token drew on.`;
    return state.token === null ? "Choose a token to see what it drew on, and what drew on it." : "";
  };
}
