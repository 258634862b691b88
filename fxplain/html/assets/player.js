// Player: a recording to be heard, and a needle over what shows it that says where it is.
{
  const { el } = fxplain;

  // `shown`: how many seconds what lies under the needle stands for.
  fxplain.player = ({ url, seconds, shown }, name) => {
    const needle = el("span", { class: "needle", hidden: true });
    const audio = el("audio", { controls: true, preload: "metadata", src: url, "aria-label": `The recording of ${name}` });
    audio.addEventListener("timeupdate", () => {
      needle.hidden = audio.currentTime === 0;
      needle.style.left = `${(100 * audio.currentTime) / shown}%`;
    });
    const seek = (part) => (audio.currentTime = Math.min(seconds, part * shown));
    return { element: audio, needle, seek };
  };
}
