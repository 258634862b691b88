"use strict";
{
  const $ = (id) => document.getElementById(id);
  const make = (name, text = "", set = {}) => {
    const made = document.createElement(name);
    made.textContent = text;
    for (const [key, value] of Object.entries(set)) made.setAttribute(key, value);
    return made;
  };
  let now = null; // what was explained, and what is struck out and silenced of it
  let struck = {};
  let silent = {};
  let asked = 0;

  const post = async (where, what) => {
    const silence = () => { throw new Error("the server does not answer: it was ended, or is out of reach."); };
    const answer = await fetch(where, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(what),
    }).catch(silence);
    const told = await answer.json().catch(silence);
    if (!answer.ok) throw new Error(told.error);
    return told;
  };
  const say = (error) => { $("status").textContent = error.message; };

  // ---- asking ----
  const form = $("ask");
  const facts = Object.fromEntries(Object.entries(form.dataset).map(([name, value]) => [name, Number(value)]));
  const opened = { image: fxplain.dataUrl, audio: fxplain.soundOf, video: fxplain.videoOf };
  const files = {}; // what was chosen, opened, by kind: promises
  const choosers = [...form.querySelectorAll('input[type="file"]')];
  const choose = async (kind, file) => {
    const told = $(`chosen-${kind}`);
    told.textContent = `Opening ${file.name} ...`;
    const own = (files[kind] = opened[kind](file, facts));
    try {
      await own;
      if (own === files[kind]) told.textContent = file.name;
    } catch (error) {
      if (own === files[kind]) told.textContent = error.message;
    }
  };
  for (const chooser of choosers) chooser.addEventListener("change", () => chooser.files[0] && choose(chooser.name, chooser.files[0]));
  // A file goes to the kind that its type names; of one kind alone, there.
  const kindOf = (file) => {
    const kinds = choosers.map((chooser) => chooser.name);
    return kinds.find((kind) => file.type.startsWith(`${kind}/`)) ?? (kinds.length === 1 ? kinds[0] : null);
  };
  if (choosers.length) {
    form.addEventListener("dragover", (event) => { event.preventDefault(); form.classList.add("dropping"); });
    form.addEventListener("dragleave", () => form.classList.remove("dropping"));
    form.addEventListener("drop", (event) => {
      event.preventDefault();
      form.classList.remove("dropping");
      for (const file of event.dataTransfer.files) if (kindOf(file)) choose(kindOf(file), file);
    });
  }
  const given = async () => {
    const what = { method: $("method").value };
    for (const field of form.querySelectorAll("textarea")) what[field.name] = field.value;
    for (const { name } of choosers) what[name] = await files[name];
    return what;
  };
  $("ask").addEventListener("submit", async (event) => {
    event.preventDefault();
    $("status").textContent = "Explaining ...";
    const own = ++asked;
    try {
      const told = await post("explain", await given());
      if (own === asked) show(told);
    } catch (error) { if (own === asked) say(error); }
  });

  // ---- showing ----
  const percent = (share) => `${(100 * share).toFixed(1)}%`;
  const shade = (value, largest) => {
    const level = largest ? Math.min(1, Math.abs(value) / largest) : 0;
    const colour = value >= 0 ? "255, 140, 0" : "40, 120, 220";
    return `rgba(${colour}, ${(0.85 * level).toFixed(3)})`;
  };
  const tint = (value, largest) => {
    const level = largest ? 0.8 * Math.min(1, Math.abs(value) / largest) : 0;
    const [r, g, b] = value >= 0 ? [255, 140, 0] : [70, 150, 240];
    return `rgb(${[r, g, b].map((c) => Math.round(255 + (c - 255) * level)).join(", ")})`;
  };
  const show = (told) => {
    now = told;
    struck = {};
    silent = {};
    $("status").textContent = "";
    $("explained").textContent = `Explained: ${told.target}, score ${told.answer.score.toPrecision(4)}`;
    $("effect").textContent = "";
    $("restore").disabled = true;
    drawAnswer(told.answer);
    $("modalities").replaceChildren(...told.modalities.flatMap((modality) => drawModality(modality)));
    $("curve").replaceChildren();
    $("compared").replaceChildren();
    $("inside").hidden = !told.heads;
    $("head").hidden = true;
    if (told.heads) drawHeads(told.heads.nodes);
    $("report").href = `report/${told.id}`;
    $("snippet").textContent = told.snippet;
    $("result").hidden = false;
    $("result").focus({ preventScroll: true });
  };
  const cell = (share) => {
    const made = make("td", percent(share));
    const bar = make("span", "", { class: "bar" });
    bar.style.width = percent(share);
    made.append(bar);
    return made;
  };
  const drawAnswer = (answer) => {
    const before = now.answer.classes ? now.answer.classes.rows : [];
    const after = answer.classes ? answer.classes.rows : [];
    const indices = [...new Set([...before, ...after].map((row) => row.index))];
    const rows = indices.map((index) => {
      const old = before.find((row) => row.index === index);
      const fresh = after.find((row) => row.index === index);
      const row = make("tr", "", (old || fresh).target ? { class: "target" } : {});
      row.append(make("td", (old || fresh).name || `class ${index}`));
      for (const each of [old, fresh]) row.append(each ? cell(each.share) : make("td", "-"));
      return row;
    });
    $("answer").tBodies[0].replaceChildren(...rows);
  };
  const toggle = (button, modality, tokens) => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    const own = new Set(struck[modality] || []);
    for (const token of tokens) { if (on) own.add(token); else own.delete(token); }
    struck[modality] = [...own];
    cut();
  };
  const unit = (modality, each, said, fixed) => {
    const title = `${each.text}: ${each.relevance.toPrecision(3)}`;
    if (fixed) return make("span", said, { class: "unit", title });
    const button = make("button", said, { type: "button", "aria-pressed": "false", title });
    if (!said) button.setAttribute("aria-label", title);
    button.addEventListener("click", () => toggle(button, modality.name, each.tokens));
    return button;
  };
  const largestOf = (modality) => Math.max(0, ...modality.units.filter((each) => !each.special).map((each) => Math.abs(each.relevance)));
  // One stop of the tab key for many: arrow keys move by one, and by a row.
  const roving = (buttons, columns) => {
    fxplain.rove(buttons, { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns });
  };
  const drawPictures = (modality, looks, fixed) => {
    const largest = largestOf(modality);
    let first = 0;
    const drawn = modality.pictures.map((tile, i) => {
      const [rows, columns] = tile.grid;
      const name = [modality.name, tile.name].filter(Boolean).join(", ");
      const grid = make("div", "", { class: "patches", role: "group", "aria-label": name });
      grid.style.gridTemplateColumns = `repeat(${columns}, 1fr)`;
      if (looks.pictures) grid.append(make("img", "", { src: looks.pictures[i], alt: "what the model is given" }));
      const units = modality.units.slice(first, first + rows * columns);
      first += rows * columns;
      const buttons = units.map((each) => {
        const button = unit(modality, each, "", fixed);
        button.style.background = shade(each.special ? 0 : each.relevance, largest);
        if (!fixed) button.setAttribute("aria-label", `patch ${each.text}`);
        return button;
      });
      grid.append(...buttons);
      if (!fixed) roving(buttons, columns);
      const figure = make("figure");
      if (tile.name) figure.append(make("figcaption", tile.name));
      figure.append(grid);
      return figure;
    });
    const several = make("div", "", { class: drawn.length > 1 ? "several" : "alone" });
    several.append(...drawn);
    return several;
  };
  // Moments as bars over a picture of the sound, with the sound itself.
  const drawMoments = (modality, looks, fixed) => {
    const largest = largestOf(modality);
    const over = make("div", "", { class: "moments" });
    const bars = make("div", "", { class: "bars", role: "group", "aria-label": `${modality.name} over time` });
    const buttons = modality.units.map((each) => {
      const button = unit(modality, each, "", fixed);
      const level = largest && !each.special ? Math.abs(each.relevance) / largest : 0;
      const bar = make("span", "", { class: "moment" });
      bar.style.height = percent(level);
      bar.style.background = tint(each.relevance, largest);
      button.append(bar);
      return button;
    });
    bars.append(...buttons);
    if (looks.strip) over.append(make("img", "", { src: looks.strip, alt: "what the model is given, over time", class: "over-time" }));
    over.append(bars);
    if (!fixed) roving(buttons, 1);
    const scroll = make("div", "", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${modality.name}, strip` });
    scroll.append(over);
    return [scroll, over];
  };
  const drawModality = (modality, fixed = false, looks = modality.looks) => {
    const title = make("h3", modality.name);
    const parts = [title];
    let under = null;
    if (modality.kind === "pictures") {
      parts.push(drawPictures(modality, looks, fixed));
    } else if (modality.kind === "moments") {
      const [scroll, over] = drawMoments(modality, looks, fixed);
      parts.push(scroll);
      under = over;
    } else {
      const largest = largestOf(modality);
      const box = make("div", "", { class: modality.kind === "text" ? "words" : "tokens" });
      for (const each of modality.units) {
        const button = unit(modality, each, each.text, fixed);
        button.style.background = tint(each.special ? 0 : each.relevance, largest);
        if (each.special) button.classList.add("special");
        box.append(each.gap || "", button);
      }
      parts.push(box);
    }
    if (looks.sound && !fixed) {
      const player = fxplain.player(looks.sound, modality.name);
      if (under) under.append(player.needle);
      parts.push(player.element);
    }
    return parts;
  };

  // ---- cutting ----
  const cut = async () => {
    const own = ++asked;
    const something = [...Object.values(struck), ...Object.values(silent)].some((places) => places.length);
    $("restore").disabled = !something;
    try {
      const told = await post("cut", { id: now.id, tokens: struck, heads: silent });
      if (own !== asked) return;
      drawAnswer(told.answer);
      $("effect").textContent = something
        ? `Score ${told.answer.score.toPrecision(4)}, ${told.effect >= 0 ? "+" : ""}${told.effect.toPrecision(3)}`
        : "";
      $("snippet").textContent = told.snippet;
      $("status").textContent = "";
    } catch (error) { say(error); $("effect").textContent = error.message; }
  };
  $("restore").addEventListener("click", () => {
    struck = {};
    silent = {};
    for (const button of $("modalities").querySelectorAll("button")) button.setAttribute("aria-pressed", "false");
    for (const button of $("heads").querySelectorAll("button")) button.classList.remove("silent");
    $("silent").checked = false;
    cut();
  });

  // ---- comparing ----
  $("compare").addEventListener("click", async () => {
    const own = now.id;
    const { model, method } = $("with").selectedOptions[0].dataset;
    try {
      const told = await post("compare", { id: own, model, method });
      if (own !== now.id) return;
      const who = told.model ? `${told.model}, ${told.method}` : told.method;
      const title = make("h3", `By ${who}: ${told.target}, score ${told.answer.score.toPrecision(4)}`);
      const parts = told.modalities.flatMap((modality) => drawModality(modality, true));
      $("compared").replaceChildren(title, ...parts);
    } catch (error) { $("compared").textContent = error.message; }
  });

  // ---- writing ----
  if ($("write")) $("write").addEventListener("click", async () => {
    $("status").textContent = "Writing ...";
    const own = ++asked;
    try {
      const told = await post("write", { ...(await given()), tokens: Number($("count").value) });
      if (own !== asked) return;
      $("status").textContent = "";
      $("written").replaceChildren(...told.tokens.map((token) => {
        const button = make("button", token.text, { type: "button", "aria-pressed": "false" });
        for (const how of ["mouseenter", "focus", "click"]) button.addEventListener(how, () => point(button, token, told.looks));
        return button;
      }));
      $("written-token").textContent = "";
      $("written-from").replaceChildren();
      $("writing").hidden = false;
      $("writing").focus({ preventScroll: true });
    } catch (error) { if (own === asked) say(error); }
  });
  const point = (button, token, looks) => {
    for (const other of $("written").children) other.setAttribute("aria-pressed", String(other === button));
    $("written-token").textContent = `${token.text.trim() || "space"}: score ${token.score.toPrecision(4)}`;
    $("written-from").replaceChildren(...token.modalities.flatMap((modality) => drawModality(modality, true, looks[modality.name] ?? {})));
  };

  // ---- the curve ----
  const svg = (name, set) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(set)) made.setAttribute(key, value);
    return made;
  };
  $("draw").addEventListener("click", async () => {
    const own = now.id;
    try {
      const told = await post("curve", { id: own });
      if (own !== now.id) return;
      const scores = Object.values(told.lines).flat();
      const [low, high] = [Math.min(...scores), Math.max(...scores)];
      const x = (count) => 40 + 480 * count / told.of;
      const y = (score) => 190 - 170 * (high > low ? (score - low) / (high - low) : 0.5);
      const made = svg("svg", { viewBox: "0 0 540 240", role: "img", "aria-label": "deletion curve" });
      const colours = ["#D55E00", "#0072B2"];
      Object.entries(told.lines).forEach(([name, line], i) => {
        const points = line.map((score, at) => `${x(told.counts[at])},${y(score)}`).join(" ");
        made.append(svg("polyline", { points, fill: "none", stroke: colours[i], "stroke-width": 2.5 }));
        const text = svg("text", { x: 44 + 180 * i, y: 230 });
        text.textContent = `${i ? "blue" : "orange"}: ${name}`;
        made.append(text);
      });
      for (const score of [low, high]) {
        const text = svg("text", { x: 2, y: y(score) + 4 });
        text.textContent = score.toPrecision(2);
        made.append(text);
      }
      const end = svg("text", { x: 400, y: 208 });
      end.textContent = `${told.of} struck out`;
      made.append(end);
      $("curve").replaceChildren(made);
    } catch (error) { say(error); }
  });

  // ---- heads ----
  let chosen = null;
  const drawHeads = (nodes) => {
    const largest = Math.max(0, ...nodes.flatMap((node) => node.shares.map(Math.abs)));
    $("heads").tBodies[0].replaceChildren(...nodes.map((node) => {
      const row = make("tr");
      row.append(make("th", node.name, { scope: "row" }));
      node.shares.forEach((share, head) => {
        const button = make("button", String(head), { type: "button", "aria-pressed": "false" });
        button.setAttribute("aria-label", `${node.name}, head ${head}: ${percent(share)}`);
        button.title = `head ${head}: ${percent(share)}`;
        button.style.background = tint(share, largest);
        button.addEventListener("click", () => pick(button, node, head, share));
        const place = make("td");
        place.append(button);
        row.append(place);
      });
      return row;
    }));
  };
  const pick = async (button, node, head, share) => {
    for (const other of $("heads").querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
    chosen = { button, node: node.name, head };
    $("head").hidden = false;
    $("head-name").textContent = `${node.name}, head ${head}: ${percent(share)} of what attention gives`;
    $("silent").checked = (silent[node.name] || []).includes(head);
    $("map").replaceChildren();
    const own = chosen;
    try {
      const told = await post("cells", { id: now.id, node: node.name, head });
      if (own !== chosen) return;
      const table = make("table", "", { "aria-label": "what each token attends to" });
      const most = Math.max(...told.cells.flat());
      told.cells.forEach((line, i) => {
        const row = make("tr");
        row.append(make("th", told.queries[i], { scope: "row" }));
        line.forEach((weight, j) => {
          const made = make("td", "", { title: `${told.queries[i]} attends to ${told.keys[j]}: ${percent(weight)}` });
          made.style.background = shade(weight, most);
          row.append(made);
        });
        table.append(row);
      });
      $("map").replaceChildren(table);
    } catch (error) { $("map").textContent = error.message; }
  };
  $("silent").addEventListener("change", () => {
    const own = new Set(silent[chosen.node] || []);
    if ($("silent").checked) own.add(chosen.head); else own.delete(chosen.head);
    silent[chosen.node] = [...own];
    chosen.button.classList.toggle("silent", $("silent").checked);
    cut();
  });

  // ---- taking along ----
  $("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText($("snippet").textContent);
      $("copy").textContent = "Copied";
    } catch { getSelection().selectAllChildren($("snippet")); }
  });
}
