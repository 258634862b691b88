// Elements: made from plain values. Every text becomes a text node, so that none is ever read as HTML.
{
  const SVG = "http://www.w3.org/2000/svg";

  const filled = (element, attributes, children) => {
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat(Infinity).filter((child) => child !== null));
    return element;
  };

  fxplain.el = (tag, attributes = {}, ...children) =>
    filled(document.createElement(tag), attributes, children);

  fxplain.svg = (tag, attributes = {}, ...children) =>
    filled(document.createElementNS(SVG, tag), attributes, children);

  // A long name may be broken between its words.
  fxplain.inParts = (name) => name.split(/(?<=[_.@|])(?=\w)/).flatMap((part, k) => (k ? [fxplain.el("wbr"), part] : [part]));

  // What can only be done on a screen; a print leaves it out.
  fxplain.onScreen = (text) => fxplain.el("span", { class: "on-screen" }, text);

  let identities = 0;
  fxplain.identity = () => `fx-${++identities}`;

  // A section with a heading that names it.
  fxplain.section = (title, ...children) => {
    const id = fxplain.identity();
    const heading = fxplain.el("h2", { id }, title);
    return fxplain.el("section", { class: "card", "aria-labelledby": id }, heading, ...children);
  };

  fxplain.table = (headings, rows, caption) =>
    fxplain.el(
      "table",
      {},
      caption ? fxplain.el("caption", {}, caption) : null,
      fxplain.el(
        "thead",
        {},
        fxplain.el("tr", {}, headings.map((heading) => fxplain.el("th", { scope: "col" }, heading))),
      ),
      fxplain.el(
        "tbody",
        {},
        rows.map((cells) =>
          fxplain.el(
            "tr",
            {},
            cells.map((cell) =>
              fxplain.el("td", typeof cell === "number" ? { class: "number" } : {},
                typeof cell === "number" ? fxplain.number(cell) : cell),
            ),
          ),
        ),
      ),
    );

  // The table behind a picture: filled when it is opened, and again when the picture changes.
  fxplain.behind = (summary, makeTable) => {
    const inside = fxplain.el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": summary });
    const details = fxplain.el("details", {}, fxplain.el("summary", {}, summary), inside);
    const refresh = () => details.open && inside.replaceChildren(makeTable());
    details.addEventListener("toggle", refresh);
    return { details, refresh };
  };

  // Choices side by side, of which one is chosen.
  fxplain.choices = (legend, options, chosen, choose) => {
    const name = fxplain.identity();
    const inputs = options.map(([value, text]) => {
      const input = fxplain.el("input", { type: "radio", name, value, checked: value === chosen });
      input.addEventListener("change", () => choose(value));
      return fxplain.el("label", {}, input, fxplain.el("span", {}, text));
    });
    return fxplain.el(
      "fieldset",
      { class: "choices" },
      fxplain.el("legend", {}, legend),
      fxplain.el("div", { class: "choices-row" }, inputs),
    );
  };

  fxplain.select = (label, options, chosen, choose) => {
    const select = fxplain.el(
      "select",
      {},
      options.map(([value, text]) => fxplain.el("option", { value, selected: value === chosen }, text)),
    );
    select.addEventListener("change", () => choose(select.value));
    return fxplain.el("label", { class: "select" }, fxplain.el("span", {}, label), select);
  };

  // One stop of the tab key for many items: the arrow keys move between them.
  fxplain.rove = (items, step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }) => {
    items.forEach((item, i) => {
      item.setAttribute("tabindex", i === 0 ? "0" : "-1");
      item.addEventListener("focus", () => {
        items.forEach((other) => other.setAttribute("tabindex", other === item ? "0" : "-1"));
      });
      item.addEventListener("keydown", (event) => {
        const to = { Home: 0, End: items.length - 1 }[event.key] ?? i + (step[event.key] ?? NaN);
        if (items[to]) {
          event.preventDefault();
          items[to].focus();
        } else if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          item.dispatchEvent(new MouseEvent("click", { bubbles: true }));
        }
      });
    });
  };
}
