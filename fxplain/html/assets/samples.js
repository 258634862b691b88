// Samples: a batch as a list to choose from, to search and to sort by score.
{
  const { el, data } = fxplain;
  const MOST_LETTERS = 90;

  const textOf = (k) =>
    data.samples[k]
      .filter(({ units }) => units)
      .map(({ units }) => units.word.filter(([, , , special]) => !special).map(([text, gap]) => gap + text).join(""))
      .join(" | ")
      .replace(/\s+/g, " ")
      .trim();

  const ORDERS = {
    place: ["as given", (a, b) => a.k - b.k],
    highest: ["highest score first", (a, b) => b.score - a.score],
    lowest: ["lowest score first", (a, b) => a.score - b.score],
    target: ["by target", (a, b) => a.target.localeCompare(b.target) || b.score - a.score],
  };

  fxplain.samples = (choose) => {
    const texts = data.samples.map((_, k) => textOf(k));
    const search = el("input", { type: "search", placeholder: "words, or a target" });
    const body = el("tbody");
    const found = el("p", { class: "note", "aria-live": "polite" });
    let order = "place";
    const row = ({ k, target, score }) => {
      const text = texts[k] || `sample ${k + 1}`;
      const short = text.length > MOST_LETTERS ? `${text.slice(0, MOST_LETTERS)}\u2026` : text;
      return el(
        "tr",
        { class: k === fxplain.state.sample ? "chosen" : null },
        el("td", { class: "number" }, String(k + 1)),
        el("td", { dir: "auto" }, el("button", { type: "button", class: "plain", "aria-current": k === fxplain.state.sample ? "true" : null, onclick: () => choose(k) }, short)),
        el("td", {}, target),
        el("td", { class: "number" }, fxplain.number(score)),
      );
    };
    const update = () => {
      const wanted = search.value.toLowerCase();
      const rows = fxplain
        .explanation()
        .samples.map(({ target, score }, k) => ({ k, target, score }))
        .filter(({ k, target }) => `${texts[k]} ${target}`.toLowerCase().includes(wanted))
        .sort(ORDERS[order][1]);
      found.textContent = `${rows.length} of ${data.samples.length}`;
      body.replaceChildren(...rows.map(row));
    };
    search.addEventListener("input", update);
    const sort = fxplain.select("Order", Object.entries(ORDERS).map(([key, [name]]) => [key, name]), order, (value) => {
      order = value;
      update();
    });
    const heading = (text) => el("th", { scope: "col" }, text);
    const table = el("table", { class: "samples" }, el("thead", {}, el("tr", {}, ["", "text", "explained", "score"].map(heading))), body);
    const inside = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "The list" }, table);
    const bar = el("div", { class: "showing-bar" }, el("label", { class: "select" }, el("span", {}, "Search"), search), sort, found);
    const element = el("details", { class: "card all-samples" }, el("summary", {}, `All ${data.samples.length} samples: search, sort, choose`), bar, inside);
    element.addEventListener("toggle", () => element.open && update());
    fxplain.onChange(() => element.open && update());
    return element;
  };
}
