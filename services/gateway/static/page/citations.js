// Citations: which of them an answer rests on, and how each is shown.

import { el } from "./dom.js";
import { openSource } from "./source.js";
import { marked } from "./text.js";
import { exactly, span } from "./time.js";

export const sameSource = (one) => [one.kind, one.doc_id, one.version_id, one.passage_id, one.quote].join("\u001f");

/** The citations an answer's text rests on: a fact, or those whose marks stand in it. */
export const resting = ({ answer, citations }) => {
  const marks = new Set(marked(answer).flatMap((piece) => piece.numbers ?? []));
  return citations.filter((one) => one.kind === "fact" || marks.has(one.n));
};

const spans = (cited) => {
  const parts = [cited.dated ? `Valid ${span(cited.valid_from, cited.valid_to)}` : "Undated"];
  if (cited.recorded_from) parts.push(`on record since ${exactly(cited.recorded_from)}`);
  if (cited.page) parts.push(`page ${cited.page}`);
  if (cited.section.length) parts.push(cited.section.join(" › "));
  return parts.join(" · ");
};

/** The button of a number in a text. */
export const mark = (n, cited, collection) => {
  const label = `Citation ${n}: ${cited?.title ?? "not known"}`;
  const open = (event) => cited && openSource(cited, collection, event.currentTarget);
  return el("button", { type: "button", class: "sup", "aria-label": label, title: cited?.title, onclick: open }, String(n));
};

/** A citation as an entry of a list; `state` is "", "new" or "gone". */
export const citationItem = (cited, collection, state = "") => {
  const open = (event) => openSource(cited, collection, event.currentTarget);
  return el(
    "li",
    { class: state },
    el("span", { class: "number" }, String(cited.n)),
    el(
      "div",
      {},
      el("button", { type: "button", class: "title", onclick: open }, cited.title || cited.doc_id),
      state ? el("em", { class: "state" }, state) : null,
      el("blockquote", {}, cited.quote),
      el("p", { class: "spans" }, spans(cited)),
    ),
  );
};
