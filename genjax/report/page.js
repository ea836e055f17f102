"use strict";
(() => {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const root = document.documentElement;

  // The theme: of the system, unless another was chosen.
  const themes = ["auto", "light", "dark"], theme = document.getElementById("theme");
  function setTheme(name) {
    root.dataset.theme = name;
    theme.querySelector("span").textContent = name;
    theme.setAttribute("aria-label", `Colour theme: ${name}`);
  }
  let saved = null;
  try { saved = localStorage.getItem("genjax-theme"); } catch { /* no storage in this browser */ }
  setTheme(themes.includes(saved) ? saved : "auto");
  theme.addEventListener("click", () => {
    setTheme(themes[(themes.indexOf(root.dataset.theme) + 1) % 3]);
    try { localStorage.setItem("genjax-theme", root.dataset.theme); } catch { /* as above */ }
  });

  // Charts are made when they come near the window: a page of many opens at once.
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) {
      near.unobserve(entry.target);
      Charts.make(entry.target, data.charts[entry.target.dataset.chart]);
    }
  }, { rootMargin: "400px" });
  document.querySelectorAll("[data-chart]").forEach((figure) => near.observe(figure));
  // Each section of curves has the same controls.
  const controls = (name) => [...document.querySelectorAll(`.tools [name=${name}]`)];
  function look(log, smooth) {
    controls("log").forEach((box) => { box.checked = log; });
    controls("smooth").forEach((range) => {
      range.value = smooth;
      range.parentElement.querySelector("output").textContent = Number(smooth) ? smooth : "off";
    });
    Charts.look({ log, smooth: Number(smooth) });
  }
  const current = () => [controls("log")[0].checked, controls("smooth")[0].value];
  controls("log").forEach((box) => box.addEventListener("change", () => look(box.checked, current()[1])));
  controls("smooth").forEach((range) => range.addEventListener("input", () => look(current()[0], range.value)));
  controls("reset").forEach((button) => button.addEventListener("click", () => Charts.reset()));

  // Images over time. In a comparison the sliders move together, each to its own nearest step.
  const sliders = [];
  for (const figure of document.querySelectorAll("[data-sheets]")) {
    const { frames, steps, linked } = data.sheets[figure.dataset.sheets];
    const [image, input, output, play] = ["img", "input", "output", "button"].map((name) => figure.querySelector(name));
    if (!input) continue;
    const show = (i) => {
      input.value = i;
      image.src = frames[i].uri;
      output.textContent = frames[i].caption;
      input.setAttribute("aria-valuetext", frames[i].caption);
    };
    const follow = (step) => {
      let best = 0;
      steps.forEach((each, i) => { if (Math.abs(each - step) < Math.abs(steps[best] - step)) best = i; });
      show(best);
    };
    const moved = (i) => {
      show(i);
      if (linked) sliders.forEach((other) => other.linked && other.figure !== figure && other.follow(steps[i]));
    };
    sliders.push({ figure, linked, follow });
    let timer = null;
    const stop = () => { clearInterval(timer); timer = null; play.textContent = "Play"; };
    input.addEventListener("input", () => { if (timer) stop(); moved(Number(input.value)); });
    play.addEventListener("click", () => {
      if (timer) return stop();
      let i = Number(input.value) >= frames.length - 1 ? -1 : Number(input.value);
      play.textContent = "Pause";
      timer = setInterval(() => { moved(++i); if (i >= frames.length - 1) stop(); }, Math.max(60, Math.min(400, 6000 / frames.length)));
    });
    show(Number(input.value));
  }
})();
