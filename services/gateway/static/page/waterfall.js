// The steps of an answer as they were recorded: one below the other, each where it began and as long as it took.

import { el } from "./dom.js";

const rounded = (ms) => (ms < 10 ? ms.toFixed(1) : String(Math.round(ms)));

const took = (ms) => (ms < 1000 ? `${rounded(ms)} ms` : `${(ms / 1000).toFixed(2)} s`);

const remarks = ({ tries, lost }) => [tries > 1 && `${tries} tries`, lost && "went without"].filter(Boolean).join(", ");

/** Whether the step had to do without its node. The generator's loss is survived within its step, and so is no fallback. */
const without = ({ node, fell_back: fellBack }, degraded) => fellBack || (node === "generator" && degraded.includes(node));

const row = (taken, total) => {
  const bar = el("span", { class: "bar" });
  bar.style.setProperty("--from", taken.start_ms / total);
  bar.style.setProperty("--long", taken.ms / total);
  return el(
    "li",
    { class: taken.lost ? "without" : "" },
    el("span", { class: "name" }, taken.step, taken.node ? el("i", {}, ` ${taken.node}`) : null),
    el("span", { class: "track", "aria-hidden": "true" }, bar),
    el("b", {}, took(taken.ms), remarks(taken) ? el("em", {}, remarks(taken)) : null),
  );
};

/** The steps that `answer` recorded: {step, node, start_ms, ms, tries, fell_back}; where it has none, their durations alone. */
const recorded = ({ trace, timings_ms: timings }) => {
  if (trace?.length) return trace;
  let start = 0;
  return Object.entries(timings).map(([step, ms]) => ({ step, ms, start_ms: (start += ms) - ms }));
};

export const waterfall = (answer) => {
  const steps = recorded(answer);
  const total = Math.max(0.01, ...steps.map((taken) => taken.start_ms + taken.ms));
  return el(
    "details",
    { class: "waterfall" },
    el("summary", {}, `Answered in ${took(total)}, in ${steps.length} ${steps.length === 1 ? "step" : "steps"}`),
    el("ol", {}, ...steps.map((taken) => row({ ...taken, lost: without(taken, answer.degraded) }, total))),
    answer.trace_id ? el("p", { class: "hint" }, "Its trace is ", el("code", {}, answer.trace_id)) : null,
  );
};
