"use strict";
// The index of an explained corpus. Rows come in files that call corpus.rows, so that the page opens from disk.
const corpus = (() => {
  const HEIGHT = 40, PRINTED = 500;
  const all = [];          // every row that has come, by its place
  let shown = [];          // places of the rows that the controls choose, in order
  let facts = null, selected = -1;
  const $ = (id) => document.getElementById(id);

  function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  // ---- data ------------------------------------------------------------------------------------------

  function rows(first, given) {
    given.forEach((row, i) => {
      const [id, name, probability, score, label, predicted, error, text, tokens, values, most, top, more, grid] = row;
      all[first + i] = { place: first + i, id, name, probability, score, label, predicted, error, text,
        tokens, values, most, top, more, grid, wrong: label !== null && predicted !== null && !same(label, predicted),
        low: `${id}\n${text ?? more.text ?? ""}`.toLowerCase() };
    });
  }

  const same = (a, b) => a.trim().toLowerCase() === b.trim().toLowerCase();

  function load(number) {
    if (number >= facts.files) { choose(); return; }
    const script = element("script", { src: `data/rows-${String(number).padStart(4, "0")}.js` });
    script.onload = () => { if (number === 0 || number % 10 === 0) choose(true); load(number + 1); };
    script.onerror = () => { $("count").textContent = `${script.src} is missing`; };
    document.head.append(script);
  }

  // ---- what is shown ---------------------------------------------------------------------------------

  function choose(keep = false) {
    const query = $("query").value.toLowerCase(), token = $("token").value.trim().toLowerCase();
    const name = $("class").value, state = $("state").value;
    const measure = $("measure").value;
    const low = $("low").value === "" ? -Infinity : Number($("low").value);
    const high = $("high").value === "" ? Infinity : Number($("high").value);
    const bounded = low > -Infinity || high < Infinity;
    shown = [];
    for (const row of all) {
      if (query && !row.low.includes(query)) continue;
      if (token && !row.top.includes(token)) continue;
      if (name && row.name !== name) continue;
      if (state === "error" && row.error === null) continue;
      if (state === "explained" && row.error !== null) continue;
      if (state === "wrong" && !row.wrong) continue;
      if (bounded && (row[measure] === null || row[measure] < low || row[measure] > high)) continue;
      shown.push(row.place);
    }
    const order = ORDERS[$("sort").value];
    if (order) shown.sort((a, b) => order(all[a], all[b]) || a - b);
    const left = facts.rows > all.length ? ` (${all.length.toLocaleString()} of them loaded)` : "";
    $("count").textContent = `${shown.length.toLocaleString()} of ${facts.rows.toLocaleString()} rows${left}`;
    $("space").style.height = `${shown.length * HEIGHT}px`;
    if (!keep) { $("list").scrollTop = 0; selected = -1; }
    draw();
  }

  const sure = (row, none) => row.probability ?? none;
  const ORDERS = {
    place: null,
    unsure: (a, b) => sure(a, 2) - sure(b, 2),
    sure: (a, b) => sure(b, -1) - sure(a, -1),
    score: (a, b) => (b.score ?? -Infinity) - (a.score ?? -Infinity) || 0,
    wrong: (a, b) => b.wrong - a.wrong || sure(b, -1) - sure(a, -1),
    id: (a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0),
  };

  function draw() {
    const list = $("list"), first = Math.max(0, Math.floor(list.scrollTop / HEIGHT) - 5);
    const last = Math.min(shown.length, first + Math.ceil(list.clientHeight / HEIGHT) + 10);
    const made = [];
    for (let i = first; i < last; i++) made.push(line(i));
    $("space").replaceChildren(...made);
  }

  function line(i) {
    const row = all[shown[i]];
    const made = element("div", { className: "one", id: `at-${i}`, onclick: () => open(i) });
    made.setAttribute("role", "option");
    made.setAttribute("aria-selected", String(i === selected));
    made.style.top = `${i * HEIGHT}px`;
    made.append(element("span", { textContent: row.id }),
      element("span", { textContent: row.name ?? "", className: row.wrong ? "wrong" : "" }),
      element("span", { textContent: percent(row.probability) }),
      row.error === null ? shaded(row, 300) : element("span", { className: "error", textContent: row.error }));
    return made;
  }

  const percent = (x) => (x === null ? "" : `${(100 * x).toFixed(1).replace(/^-0\.0$/, "0.0")}%`);

  // ---- relevance -------------------------------------------------------------------------------------

  function parts(row) {  // what is read, piece by piece: [text, value or null]
    const found = [];
    let at = 0, plain = row.text !== null;
    row.tokens.forEach((token, i) => {
      if (typeof token === "string") { if (!plain) found.push([token, row.values[i]], [" ", null]); return; }
      if (token === null) return;
      const [start, end] = token;
      if (start > at) found.push([row.text.slice(at, start), null]);
      if (end > Math.max(at, start)) found.push([row.text.slice(Math.max(at, start), end), row.values[i]]);
      at = Math.max(at, end);
    });
    if (plain && at < row.text.length) found.push([row.text.slice(at), null]);
    return found;
  }

  // of the largest that is not special, so that a CLS does not outshine the words
  const shade = (value) => 0.85 * Math.min(1, Math.abs(value) / 1000);

  function shaded(row, most = Infinity) {
    if (row.grid) return pictured(row);
    const made = element("span");
    let length = 0;
    for (const [text, value] of parts(row)) {
      if (length > most) break;
      length += text.length;
      const mark = element(value === null ? "span" : "mark", { textContent: text });
      if (value !== null) {
        mark.style.background = `rgba(var(--${value < 0 ? "less" : "more"}), ${shade(value)})`;
        mark.title = (value / 1000 * row.most).toPrecision(3);
      }
      made.append(mark);
    }
    return made;
  }

  function pictured(row) {  // the tokens of a picture where they lie in it, and the picture's name
    const [height, width, first] = row.grid;
    const map = element("canvas", { width, height, title: "relevance where it lies in the picture" });
    const context = map.getContext("2d"), style = getComputedStyle(document.documentElement);
    for (let i = 0; i < height * width; i++) {
      const value = row.values[first + i];
      context.fillStyle = `rgba(${style.getPropertyValue(value < 0 ? "--less" : "--more")}, ${shade(value)})`;
      context.fillRect(i % width, Math.floor(i / width), 1, 1);
    }
    map.setAttribute("role", "img");
    map.setAttribute("aria-label", map.title);
    return element("span", {}, map, ` ${row.more.text ?? ""}`);
  }

  function bar(name, value, most, said, onclick) {
    const track = element("span", { className: "track" }), fill = element("i");
    fill.style.width = `${100 * Math.min(1, Math.abs(value) / (most || 1))}%`;
    track.append(fill);
    const title = onclick ? element("button", { type: "button", className: "link", textContent: name, title: name, onclick })
      : element("span", { textContent: name, title: name });
    return element("div", { className: "bar" }, title, track, element("span", { textContent: said }));
  }

  // ---- one row ---------------------------------------------------------------------------------------

  function open(i) {
    selected = i;
    const row = all[shown[i]], dialog = $("row");
    history.replaceState(null, "", `#row=${row.place}`);
    const said = { id: row.id, target: row.name, probability: percent(row.probability), score: row.score,
      label: row.label, predicted: row.predicted, ...row.more, error: row.error };
    const list = element("dl");
    for (const [name, value] of Object.entries(said)) {
      if (value !== null && value !== "" && value !== undefined)
        list.append(element("dt", { textContent: name }), element("dd", { textContent: String(value) }));
    }
    const words = row.tokens.map((t, j) => [Array.isArray(t) ? row.text.slice(t[0], t[1]) : t ?? "", row.values[j]])
      .sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])).slice(0, 20);
    const bars = element("div");
    for (const [name, value] of words) {
      const made = bar(name, value, 1000, (value / 1000 * row.most).toPrecision(3));
      if (value > 0) made.querySelector("i").classList.add("more");  // as the text is shaded
      if (Math.abs(value) > 1000) {  // a special token may have much more than all words
        made.querySelector("i").classList.add("beyond");
        made.title = "beyond the scale of the words";
      }
      bars.append(made);
    }
    const step = (by) => element("button", { type: "button", textContent: by < 0 ? "Previous" : "Next",
      disabled: shown[i + by] === undefined, onclick: () => open(i + by) });
    dialog.replaceChildren(
      element("nav", {}, step(-1), step(1), element("button", { type: "button", textContent: "Close", onclick: () => dialog.close() })),
      element("h2", { id: "row-title", textContent: `${row.id}: ${row.name ?? "not explained"}` }),
      element("p", { className: "whole" }, shaded(row)), list,
      ...(words.length ? [element("h2", { textContent: "Tokens with the most relevance" }), bars] : []));
    if (!dialog.open) dialog.showModal();
    draw();
  }

  function openNamed() {
    const found = /^#row=(\d+)$/.exec(location.hash);
    const at = found ? shown.indexOf(Number(found[1])) : -1;
    if (at >= 0) { $("list").scrollTop = at * HEIGHT; open(at); }
  }

  // ---- the summary -----------------------------------------------------------------------------------

  function charts() {
    const section = (title, ...children) => $("charts").append(
      element("section", {}, element("h2", { textContent: title }), ...children));
    const most = Math.max(1, ...facts.classes.map((c) => c.rows));
    section("Explained classes", ...facts.classes.slice(0, 12).map((c) => bar(c.name, c.rows, most,
      c.rows.toLocaleString(), () => set("class", c.name))));
    const high = Math.max(1, ...facts.histogram);
    if (facts.histogram.some((n) => n)) section("Probability", ...facts.histogram.map((n, i) => bar(
      `${i * 10}–${(i + 1) * 10}%`, n, high, n.toLocaleString(),
      () => { $("low").value = i / 10; $("high").value = (i + 1) / 10; set("measure", "probability"); })));
    for (const [name, drivers] of Object.entries(facts.drivers)) {
      const largest = Math.max(...drivers.map((d) => Math.max(Math.abs(d.low), Math.abs(d.high))), 1e-9);
      section(`What drives ${name}`, ...drivers.map((d) => {
        const made = bar(d.feature, d.share, largest, percent(d.share), () => set("token", d.feature));
        if (d.share > 0) made.querySelector("i").className = "more";  // what speaks against the class is blue, as in the text
        const whisker = element("b"), sign = Math.sign(d.share) || 1;
        const [near, far] = [sign * d.low, sign * d.high].sort((x, y) => x - y).map((x) => Math.max(0, x));
        whisker.style.left = `${100 * near / largest}%`;
        whisker.style.width = `${100 * (far - near) / largest}%`;
        made.children[1].append(whisker);
        made.title = `mean share ${percent(d.share)} (95%: ${percent(d.low)} to ${percent(d.high)}) in ${d.count} rows`;
        return made;
      }));
    }
    const errors = Object.entries(facts.errors);
    if (errors.length) section("Errors", ...errors.map(([name, n]) => bar(name, n,
      Math.max(...errors.map((e) => e[1])), n.toLocaleString(), () => set("state", "error"))));
    if (facts.leaks.length) section("A label's name in the text", ...facts.leaks.map((leak) =>
      bar(leak.label, leak.share, 1, percent(leak.share), () => set("token", leak.label.toLowerCase()))));
  }

  function set(control, value) { $(control).value = value; choose(); }

  function toPrint() {  // the row that is open, or else what is chosen
    const places = $("row").open ? [shown[selected]] : shown.slice(0, PRINTED);
    const left = $("row").open || shown.length <= PRINTED ? "" : `; the first ${PRINTED} are printed`;
    $("printed").replaceChildren(element("p", { textContent: `${facts.about} ${$("count").textContent}${left}.` }), ...places.map((place) => {
      const row = all[place];
      return element("article", {}, element("b", { textContent: `${row.id} ${row.name ?? ""} ${percent(row.probability)} ` }),
        row.error === null ? shaded(row) : element("span", { className: "error", textContent: row.error }));
    }));
  }

  function start() {
    $("about").textContent = facts.about;
    for (const { name } of facts.classes) $("class").append(element("option", { value: name, textContent: name }));
    for (const warning of facts.warnings) $("about").after(element("p", { className: "warning", textContent: warning }));
    charts();
    $("overview").open = innerWidth > 700;  // on a phone the rows come first
    let waiting = 0;
    $("controls").addEventListener("input", () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(() => choose()); });
    $("controls").addEventListener("submit", (event) => event.preventDefault());
    $("print").addEventListener("click", () => { toPrint(); window.print(); });
    addEventListener("beforeprint", toPrint);  // also where the browser's own command prints
    $("list").addEventListener("scroll", draw);
    $("list").addEventListener("keydown", (event) => {
      const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (by) {
        selected = Math.min(shown.length - 1, Math.max(0, selected + by));
        const list = $("list"), top = selected * HEIGHT;
        if (top < list.scrollTop) list.scrollTop = top;
        if (top + HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = top + HEIGHT - list.clientHeight;
        list.setAttribute("aria-activedescendant", `at-${selected}`);
        draw();
      } else if (event.key === "Enter" && selected >= 0) open(selected);
      else return;
      event.preventDefault();
    });
    $("row").addEventListener("close", () => history.replaceState(null, "", location.pathname));
    addEventListener("resize", draw);
    load(0);
    choose();
    const wait = setInterval(() => { if (all.length >= facts.rows) { clearInterval(wait); openNamed(); } }, 50);
  }

  return { rows, start, summary: (given) => { facts = given; } };
})();
