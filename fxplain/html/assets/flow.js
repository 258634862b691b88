"use strict";
{
  // The drawn flow: moved and zoomed by its viewBox; a chosen token shows its own edges.
  // On a narrow screen it begins with a part that can be read: what is read, and the names.
  const [NARROW, READABLE] = [700, 0.75];
  const svg = document.getElementById("flow");
  const told = document.getElementById("told");
  const whole = svg.viewBox.baseVal;
  const start = [whole.x, whole.y, whole.width, whole.height];
  const narrow = svg.clientWidth < NARROW && svg.clientWidth < READABLE * start[2];
  let box = narrow ? [start[0], start[1], svg.clientWidth / READABLE, svg.clientHeight / READABLE] : [...start];
  const show = () => svg.setAttribute("viewBox", box.join(" "));
  show();
  addEventListener("beforeprint", () => svg.setAttribute("viewBox", start.join(" ")));
  addEventListener("afterprint", show);
  const zoom = (factor, x = box[0] + box[2] / 2, y = box[1] + box[3] / 2) => {
    const size = Math.min(Math.max(box[2] * factor, start[2] / 40), start[2] * 2);
    const by = size / box[2];
    box = [x - (x - box[0]) * by, y - (y - box[1]) * by, box[2] * by, box[3] * by];
    show();
  };
  const move = (x, y) => { box = [box[0] + x * box[2], box[1] + y * box[3], box[2], box[3]]; show(); };
  const at = (event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    const point = at(event);
    zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, point.x, point.y);
  }, { passive: false });
  let held = null;
  svg.addEventListener("pointerdown", (event) => { held = at(event); });
  addEventListener("pointermove", (event) => {
    if (!held) return;
    const now = at(event);
    box = [box[0] + held.x - now.x, box[1] + held.y - now.y, box[2], box[3]];
    show();
  });
  addEventListener("pointerup", () => { held = null; });
  document.getElementById("in").addEventListener("click", () => zoom(1 / 1.4));
  document.getElementById("out").addEventListener("click", () => zoom(1.4));
  document.getElementById("all").addEventListener("click", () => { box = [...start]; show(); pick(null); });
  const lines = [...svg.querySelectorAll(".lines path")];
  const spots = [...svg.querySelectorAll("[data-spot]")];
  const pick = (spot) => {
    svg.classList.toggle("picked", Boolean(spot));
    const on = new Set(spot ? [spot.dataset.spot] : []);
    for (const line of lines) {
      const ends = line.dataset.ends.split(" ");
      const own = Boolean(spot) && ends.includes(spot.dataset.spot);
      line.classList.toggle("on", own);
      if (own) ends.forEach((end) => on.add(end));
    }
    for (const each of spots) each.classList.toggle("on", on.has(each.dataset.spot));
    if (spot) told.textContent = spot.getAttribute("aria-label");
  };
  for (const spot of spots) spot.addEventListener("click", () => pick(spot));
  svg.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
    if (event.key in steps) move(...steps[event.key]);
    else if (event.key === "+") zoom(1 / 1.4);
    else if (event.key === "-") zoom(1.4);
    else if (event.key === "Escape") pick(null);
    else if ((event.key === "Enter" || event.key === " ") && event.target.dataset.spot) pick(event.target);
    else return;
    event.preventDefault();
  });
}
