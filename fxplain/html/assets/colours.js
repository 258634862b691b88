// Colours: blue below zero, the page's own surface at zero, orange above. Readers with and without colour
// vision deficiency tell the two apart, and lightness alone gives the size.
{
  const RAMPS = {
    light: {
      above: ["#fffdf9", "#fee3bd", "#fdbb6d", "#ee8422", "#bd5408", "#7a3205"],
      below: ["#fbfdff", "#cfe3f5", "#91c0e8", "#4a92cf", "#1d65a6", "#0c3c6d"],
    },
    dark: {
      above: ["#1d2127", "#4a3016", "#83480f", "#c96a12", "#f59b3f", "#ffe0b3"],
      below: ["#1d2127", "#173250", "#1c507f", "#2f7ec2", "#72b1ea", "#d2e8ff"],
    },
  };
  const STEPS = 256;

  const table = (ramp) => {
    const at = d3.piecewise(d3.interpolateRgb, ramp);
    return Array.from({ length: STEPS }, (_, i) => d3.rgb(at(i / (STEPS - 1))));
  };
  const tables = Object.fromEntries(
    Object.entries(RAMPS).map(([mode, ramps]) => [
      mode,
      { above: table(ramps.above), below: table(ramps.below) },
    ]),
  );

  const media = window.matchMedia("(prefers-color-scheme: dark)");
  let mode = tables[media.matches ? "dark" : "light"];
  media.addEventListener("change", () => (mode = tables[media.matches ? "dark" : "light"]));
  fxplain.onModeChange = (redraw) => media.addEventListener("change", redraw);

  // The colour of a level from -1 to 1.
  fxplain.colour = (level) => {
    const size = Math.min(1, Math.abs(level));
    return (level < 0 ? mode.below : mode.above)[Math.round(size * (STEPS - 1))];
  };

  const linear = (channel) => {
    const c = channel / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  };

  // Black or white, whichever is more readable on a colour.
  fxplain.inkOn = ({ r, g, b }) => {
    const light = 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    return (light + 0.05) / 0.05 > 1.05 / (light + 0.05) ? "#000" : "#fff";
  };

  fxplain.css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
