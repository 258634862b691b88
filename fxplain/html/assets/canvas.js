// Canvases: sharp on every screen, and drawn again when their size changes.
{
  fxplain.sized = (canvas, width, height) => {
    const scale = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    return context;
  };

  // A small canvas with one pixel for each number; paint gives [r, g, b, alpha].
  fxplain.pixels = (columns, rows, paint) => {
    const small = document.createElement("canvas");
    small.width = columns;
    small.height = rows;
    const context = small.getContext("2d");
    const image = context.createImageData(columns, rows);
    for (let i = 0, at = 0; i < columns * rows; i++) {
      for (const part of paint(i)) image.data[at++] = part;
    }
    context.putImageData(image, 0, 0);
    return small;
  };

  fxplain.onResize = (element, redraw) => {
    let width = 0;
    new ResizeObserver(() => {
      if (element.clientWidth !== width) {
        width = element.clientWidth;
        redraw();
      }
    }).observe(element);
  };

  // Arrow keys move a cursor over a canvas of tokens, Enter chooses.
  fxplain.cursorKeys = (canvas, steps, move, choose) => {
    canvas.addEventListener("keydown", (event) => {
      if (event.key in steps) move(steps[event.key]);
      else if (event.key === "Enter" || event.key === " ") choose();
      else return;
      event.preventDefault();
    });
  };
}
