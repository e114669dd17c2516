// What went wrong, or went without something, said plainly.

import { el } from "./dom.js";

const WITHOUT = {
  encoder: "The encoder did not answer: passages were found by their words alone, not by their meaning.",
  retriever: "The index did not answer: no documents were searched.",
  features: "The facts could not be looked up: only documents were searched.",
  generator: "The writer did not answer: the evidence is quoted as it stands.",
  worker: "No worker took the question up: the gateway answered it itself.",
  broker: "The queue did not answer: the gateway answered the question itself.",
};

export const degradedNotice = (nodes) =>
  el(
    "div",
    { class: "notice" },
    el("p", {}, el("strong", {}, "Answered with less than usual.")),
    ...nodes.map((node) => el("p", {}, WITHOUT[node] ?? `Without ${node}, which did not answer.`)),
  );

export const abstainedNotice = (cited) =>
  el(
    "div",
    { class: "notice" },
    el("p", {}, el("strong", {}, "Almanac does not answer this.")),
    el("p", {}, cited ? "What comes nearest is below; it does not say it." : "Nothing on record then comes near it."),
  );

/** An error with what to do about it. */
export const problemNotice = (problem) =>
  el(
    "div",
    { class: "notice error", role: "alert" },
    el("p", {}, el("strong", {}, problem.title ?? "Something went wrong")),
    el("p", {}, problem.message),
    problem.advice ? el("p", {}, problem.advice) : null,
  );
