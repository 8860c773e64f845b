"use strict";
const input = id => document.getElementById(id);
const controls = ["words", "kind", "run", "solved"].map(input).filter(Boolean);
const value = id => input(id) ? input(id).value : "";
function filter() {
  const words = value("words").toLowerCase(), kind = value("kind"), run = value("run"), solved = value("solved");
  let shown = 0;
  for (const problem of document.querySelectorAll(".problem")) {
    const name = problem.querySelector("summary").textContent.toLowerCase();
    let match = false;
    for (const sample of problem.querySelectorAll(".sample")) {
      const text = sample.querySelector("summary").textContent.toLowerCase();
      const fits = (!kind || sample.dataset.kind === kind) && (!run || sample.dataset.run === run)
        && (name.includes(words) || text.includes(words));
      sample.hidden = !fits;
      match = match || fits;
    }
    const named = name.includes(words) && (!kind || problem.dataset.kinds.includes("|" + kind + "|"));
    problem.hidden = !(match || named) || (solved && problem.dataset.solved !== solved);
    shown += !problem.hidden;
  }
  input("count").textContent = shown + " problems";
}
controls.forEach(control => control.addEventListener("input", filter));
filter();
