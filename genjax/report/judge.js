"use strict";
(() => {
  const { id, mode, images } = JSON.parse(document.getElementById("page-data").textContent);
  const get = (name) => document.getElementById(name);
  const store = `genjax-judgement-${id}`;
  let answers = [], started = false;
  try {
    const saved = JSON.parse(localStorage.getItem(store));
    if (Array.isArray(saved) && saved.length <= images.length) answers = saved;
  } catch { /* no storage in this browser: the answers live in this window */ }

  function show() {
    try { localStorage.setItem(store, JSON.stringify(answers)); } catch { /* as above */ }
    const done = answers.length === images.length;
    get("intro").hidden = started;
    get("work").hidden = !started || done;
    get("done").hidden = !started || !done;
    get("bar").value = answers.length;
    get("count").textContent = `${Math.min(answers.length + 1, images.length)} of ${images.length}`;
    get("undo").disabled = !answers.length;
    get("summary").textContent = `${answers.length} images judged.`;
    if (!done) get("image").src = images[answers.length];
  }
  function answer(value) {
    if (!started || answers.length >= images.length) return;
    answers.push(value);
    show();
    if (answers.length === images.length) document.querySelector("#done .save").focus();
  }
  function undo() { answers.pop(); show(); }
  function save() {
    const text = JSON.stringify({ genjax: "judgement", id, mode, answers }, null, 1);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = `judgement_${id}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
  function start() { started = true; show(); document.activeElement.blur(); }

  get("start").addEventListener("click", start);
  get("start").textContent = answers.length ? `Go on at ${answers.length + 1}` : "Start";
  get("undo").addEventListener("click", undo);
  get("back").addEventListener("click", undo);
  document.querySelectorAll(".save").forEach((button) => button.addEventListener("click", save));
  const choices = [...document.querySelectorAll("[data-answer]")];
  choices.forEach((button) => button.addEventListener("click", () => answer(button.dataset.answer)));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !started) return;
    const key = event.key.toLowerCase();
    const chosen = choices.find((button) => button.dataset.keys.split(" ").includes(key));
    if (chosen) answer(chosen.dataset.answer);
    else if (key === "u" || key === "backspace") undo();
    else return;
    event.preventDefault();
  });
  show();
})();
