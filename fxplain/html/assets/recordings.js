// Recordings: what a person chose, opened by the browser itself and made small: a .wav file at the model's own
// rate, a few frames of a video. The server is sent no format of which it would need a decoder.
{
  const PATIENCE = 30_000; // milliseconds for a video to show its next frame
  const LONGEST_SIDE = 640; // pixels of a frame, more than models look at

  fxplain.dataUrl = (blob) =>
    new Promise((done, failed) => {
      const reader = new FileReader();
      reader.onload = () => done(reader.result);
      reader.onerror = () => failed(new Error("the file cannot be read."));
      reader.readAsDataURL(blob);
    });

  const short = (seconds, most, what) => {
    if (seconds > most) throw new Error(`the ${what} has ${seconds.toFixed(0)} seconds; up to ${most} are taken.`);
  };

  // A .wav file of one channel, 16 bits.
  const wav = (samples, rate) => {
    const made = new DataView(new ArrayBuffer(44 + 2 * samples.length));
    const text = (at, letters) => [...letters].forEach((letter, i) => made.setUint8(at + i, letter.charCodeAt(0)));
    text(0, "RIFF");
    made.setUint32(4, 36 + 2 * samples.length, true);
    text(8, "WAVEfmt ");
    made.setUint32(16, 16, true);
    made.setUint16(20, 1, true);
    made.setUint16(22, 1, true);
    made.setUint32(24, rate, true);
    made.setUint32(28, 2 * rate, true);
    made.setUint16(32, 2, true);
    made.setUint16(34, 16, true);
    text(36, "data");
    made.setUint32(40, 2 * samples.length, true);
    samples.forEach((sample, i) => made.setInt16(44 + 2 * i, Math.round(Math.max(-1, Math.min(1, sample)) * 32767), true));
    return new Blob([made], { type: "audio/wav" });
  };

  fxplain.soundOf = async (file, { rate, seconds }) => {
    const context = new OfflineAudioContext(1, 1, rate);
    let sound;
    try {
      sound = await context.decodeAudioData(await file.arrayBuffer());
    } catch {
      throw new Error(`${file.name} cannot be read as a recording.`);
    }
    short(sound.duration, seconds, "recording");
    const channels = Array.from({ length: sound.numberOfChannels }, (_, i) => sound.getChannelData(i));
    const samples = channels[0].map((_, i) => channels.reduce((sum, own) => sum + own[i], 0) / channels.length);
    return fxplain.dataUrl(wav(samples, rate));
  };

  const once = (element, name) =>
    new Promise((done, failed) => {
      const late = setTimeout(() => failed(new Error("the video takes too long to open.")), PATIENCE);
      element.addEventListener(name, () => (clearTimeout(late), done()), { once: true });
      element.addEventListener("error", () => (clearTimeout(late), failed(new Error("the video cannot be read."))), { once: true });
    });

  // The middles of so many equal stretches, as pictures; an animated picture is sent as it is.
  fxplain.videoOf = async (file, { frames }) => {
    if (file.type.startsWith("image/")) return fxplain.dataUrl(file);
    const video = document.createElement("video");
    video.muted = true;
    const address = URL.createObjectURL(file);
    try {
      const ready = once(video, "loadeddata");
      video.src = address;
      await ready;
      if (!Number.isFinite(video.duration)) {
        // a browser's own recordings tell how long they are only at their end
        const told = once(video, "durationchange");
        video.currentTime = 1e7;
        await told;
      }
      const scale = Math.min(1, LONGEST_SIDE / Math.max(video.videoWidth, video.videoHeight));
      const canvas = document.createElement("canvas");
      canvas.width = Math.max(1, Math.round(scale * video.videoWidth));
      canvas.height = Math.max(1, Math.round(scale * video.videoHeight));
      const made = [];
      for (let i = 0; i < frames; i++) {
        const shown = once(video, "seeked");
        video.currentTime = ((i + 0.5) * video.duration) / frames;
        await shown;
        canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
        made.push(canvas.toDataURL("image/jpeg", 0.95));
      }
      return { frames: made, seconds: video.duration };
    } finally {
      URL.revokeObjectURL(address);
    }
  };
}
