// The steps of an answer, one below the other, each where it began and as long as it took.

import { el } from "./dom.js";

const rounded = (ms) => (ms < 10 ? ms.toFixed(1) : String(Math.round(ms)));

const row = ({ step, ms, end }, total) => {
  const bar = el("span", { class: "bar" });
  bar.style.setProperty("--from", Math.max(0, (end - ms) / total));
  bar.style.setProperty("--long", Math.min(1, ms / total));
  return el("li", {}, el("span", { class: "name" }, step), el("span", { class: "track" }, bar), el("b", {}, `${rounded(ms)} ms`));
};

/**
 * `steps` {step, ms, end}: as they were told, `end` ms after the question left. Where none were told, their durations
 * in `timings` one after another. `total` ms from asking to the end.
 */
export const waterfall = (steps, timings, total) => {
  let end = 0;
  const known = steps.length
    ? steps
    : Object.entries(timings).map(([step, ms]) => ({ step, ms, end: (end += ms) }));
  const whole = Math.max(total, ...known.map((step) => step.end));
  return el(
    "details",
    { class: "waterfall" },
    el("summary", {}, `Answered in ${rounded(total)} ms, in ${known.length} steps`),
    el("ol", {}, ...known.map((step) => row(step, whole))),
  );
};
