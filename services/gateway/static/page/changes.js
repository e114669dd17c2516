// What changed between two answers: their words, and what they rest on.

import { resting, sameSource } from "./citations.js";
import { el } from "./dom.js";
import { difference, withoutMarks } from "./text.js";

const changedWords = ([kind, text]) => {
  if (kind === "same") return text;
  return kind === "gone" ? el("del", {}, text) : el("ins", {}, text);
};

const counted = (added, gone) => {
  if (!added && !gone) return "It rests on the same sources.";
  const parts = [];
  if (added) parts.push(added === 1 ? "One source is new" : `${added} sources are new`);
  if (gone) parts.push(gone === 1 ? "one no longer stands" : `${gone} no longer stand`);
  const [first, ...rest] = parts.join("; ");
  return `${first.toUpperCase()}${rest.join("")}.`;
};

/** The sources that only `after` rests on, by `sameSource`, and the citations that only `before` rests on. */
const sources = (before, after) => {
  const [old, now] = [before, after].map((answer) => new Map(resting(answer).map((one) => [sameSource(one), one])));
  const added = new Set([...now.keys()].filter((key) => !old.has(key)));
  return { added, gone: [...old].filter(([key]) => !now.has(key)).map(([, one]) => one) };
};

/** What changed from one answer to another: {node, added, gone}, the latter two sources by `sameSource` and citations. */
export const whatChanged = (before, after, heading) => {
  const { added, gone } = sources(before, after);
  const runs = difference(withoutMarks(before.answer), withoutMarks(after.answer));
  const same = runs.every(([kind]) => kind === "same");
  const node = el(
    "div",
    { class: "changed", "data-same": String(same) },
    el("h3", {}, heading),
    same ? el("p", { class: "hint" }, "The answer is the same.") : el("p", { class: "diff" }, ...runs.map(changedWords)),
    el("p", { class: "hint" }, counted(added.size, gone.length)),
  );
  return { node, added, gone };
};
