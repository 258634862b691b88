// Numbers: from the page's base64 to typed arrays, and as short texts.
{
  const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

  fxplain.vector = (text) => new Float32Array(bytes(text).buffer);

  // A matrix as `pack_matrix` wrote it: whole numbers, a scale for each row, perhaps numbers apart.
  fxplain.matrix = (packed) => {
    const { rows, columns } = packed;
    const buffer = bytes(packed.values).buffer;
    const whole = packed.bits === 16 ? new Int16Array(buffer) : new Int8Array(buffer);
    const scales = fxplain.vector(packed.scales);
    const values = new Float32Array(rows * columns);
    for (let i = 0; i < values.length; i++) {
      values[i] = whole[i] * scales[Math.floor(i / columns)];
    }
    if (packed.apart) {
      const [places, numbers] = packed.apart;
      const own = fxplain.vector(numbers);
      new Int32Array(bytes(places).buffer).forEach((place, k) => (values[place] = own[k]));
    }
    return { rows, columns, values };
  };

  fxplain.row = (matrix, i) =>
    matrix.values.subarray(i * matrix.columns, (i + 1) * matrix.columns);

  fxplain.column = (matrix, j) =>
    Float32Array.from({ length: matrix.rows }, (_, i) => matrix.values[i * matrix.columns + j]);

  fxplain.number = (value) => {
    if (value === null || !Number.isFinite(value)) return "\u2013";
    if (value === 0) return "0";
    const size = Math.abs(value);
    return size >= 1e5 || size < 1e-4 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  };

  fxplain.percent = (share) =>
    share > 0 && share < 0.005 ? "<1%" : `${Math.round(share * 100)}%`;

  // A share with a minus where it speaks against the target; a small one has a digit more.
  fxplain.signedPercent = (share) => {
    if (share >= 0) return fxplain.percent(share);
    return `\u2212${-share < 0.005 ? (-share * 100).toFixed(1) : Math.round(-share * 100)}%`.replace("0.0%", "0%");
  };

  // The largest size of a number, those at the skipped places left aside.
  fxplain.largest = (values, skipped = []) => {
    let most = 0;
    for (let i = 0; i < values.length; i++) {
      const size = Math.abs(values[i]);
      if (size > most && !skipped.includes(i)) most = size;
    }
    return most;
  };

  // The size of words that gets the strongest shade, as `strongest_shade` of fxplain.views has it: the largest, or
  // less where one of a long text would whiten the rest.
  const [LONG, FAR, LEVEL, RARE] = [20, 8, 0.5, 50];
  fxplain.strongestShade = (values) => {
    const sizes = Float64Array.from(values, Math.abs).filter((size) => size > 0).sort().reverse();
    if (sizes.length < LONG) return sizes[0] ?? 0;
    for (let beyond = Math.max(1, Math.floor(sizes.length / RARE)); beyond > 0; beyond--) {
      if (sizes[beyond - 1] > FAR * sizes[beyond]) return sizes[beyond] / LEVEL;
    }
    return sizes[0];
  };
}
