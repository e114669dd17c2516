// One answer as it comes in: text, citations, steps; and what changed since another one.

import { Problem, events, postJson } from "./api.js";
import { el } from "./dom.js";
import { abstainedNotice, degradedNotice, problemNotice } from "./notices.js";
import { openSource } from "./source.js";
import { difference, marked, withoutMarks } from "./text.js";
import { exactly, span } from "./time.js";
import { waterfall } from "./waterfall.js";

const GROUNDING = {
  generated: "Written from the evidence, each sentence checked against it.",
  quoted: "Quoted from the record, word for word.",
};

const sameSource = (one) => [one.kind, one.doc_id, one.version_id, one.passage_id, one.quote].join("\u001f");

/** The answer to one question at one moment. */
export class AnswerView {
  constructor(collection) {
    this.collection = collection;
    this.text = "";
    this.citations = [];
    this.steps = [];
    this.answer = null;
    this.words = el("div", { class: "words", "aria-busy": "true" });
    this.notices = el("div", { class: "notices" });
    this.changed = el("div", { class: "changed" });
    this.cited = el("div", { class: "cited" });
    this.foot = el("div", { class: "foot" });
    this.node = el("div", { class: "answer" }, this.notices, this.words, this.changed, this.cited, this.foot);
  }

  /** Ask and show what comes; the finished answer, or null where it failed. An abort raises AbortError. */
  async ask(question, { asOf, knownAt }, signal) {
    const body = { question, collection: this.collection, stream: true };
    if (asOf) body.as_of = asOf;
    if (knownAt) body.known_at = knownAt;
    this.began = performance.now();
    try {
      const response = await postJson("/v1/answers", body, { signal });
      for await (const event of events(response)) this.#take(event);
    } catch (problem) {
      if (problem.name === "AbortError") throw problem;
      this.#fail(problem);
    }
    this.words.removeAttribute("aria-busy");
    return this.answer;
  }

  #take({ name, data }) {
    if (name === "text") this.text += data.text;
    else if (name === "citation") this.citations.push(data.citation);
    else if (name === "step") this.steps.push({ ...data, end: performance.now() - this.began });
    else if (name === "done") this.#done(data.answer);
    else if (name === "error") this.#fail(new Problem(data.problem));
    if (name === "text") this.#write();
    if (name === "citation") this.#cite();
  }

  #done(answer) {
    Object.assign(this, { answer, text: answer.answer, citations: answer.citations });
    const abstained = answer.grounding === "abstained";
    if (answer.degraded.length) this.notices.append(degradedNotice(answer.degraded));
    if (abstained) this.notices.append(abstainedNotice(answer.citations.length));
    this.#write();
    this.#cite();
    const spent = performance.now() - this.began;
    this.foot.replaceChildren(
      el("p", { class: "hint" }, GROUNDING[answer.grounding] ?? ""),
      waterfall(this.steps, answer.timings_ms, spent),
    );
  }

  #fail(problem) {
    this.notices.append(problemNotice(problem));
  }

  #write() {
    const pieces = marked(this.text).map((piece) => piece.text ?? this.#marks(piece.numbers));
    this.words.replaceChildren(el("p", {}, ...pieces));
  }

  #marks(numbers) {
    return el("span", { class: "sups" }, ...numbers.map((n) => this.#mark(n)));
  }

  #mark(n) {
    const cited = this.citations.find((one) => one.n === n);
    const label = `Citation ${n}: ${cited?.title ?? "not known"}`;
    const open = (event) => cited && openSource(cited, this.collection, event.currentTarget);
    return el("button", { type: "button", class: "sup", "aria-label": label, title: cited?.title, onclick: open }, String(n));
  }

  #cite() {
    const cited = resting({ answer: this.text, citations: this.citations });
    const rest = this.citations.filter((one) => !cited.includes(one));
    const nearest = this.answer?.grounding === "abstained";
    this.cited.replaceChildren(
      this.#list("Cited", cited),
      nearest ? this.#list("Nearest on record", rest) : this.#folded("Also read", rest),
    );
  }

  #list(heading, citations) {
    if (!citations.length) return "";
    return el("section", {}, el("h3", {}, heading), el("ol", {}, ...citations.map((one) => this.#citation(one))));
  }

  #folded(heading, citations) {
    if (!citations.length) return "";
    const list = el("ol", {}, ...citations.map((one) => this.#citation(one)));
    return el("details", {}, el("summary", {}, `${heading} (${citations.length})`), list);
  }

  #citation(cited, state = "") {
    const open = (event) => openSource(cited, this.collection, event.currentTarget);
    const added = state || (this.added?.has(sameSource(cited)) ? "new" : "");
    return el(
      "li",
      { class: added },
      el("span", { class: "number" }, String(cited.n)),
      el(
        "div",
        {},
        el("button", { type: "button", class: "title", onclick: open }, cited.title || cited.doc_id),
        added ? el("em", { class: "state" }, added === "new" ? "new" : "gone") : null,
        el("blockquote", {}, cited.quote),
        el("p", { class: "spans" }, spans(cited)),
      ),
    );
  }

  /** Show what is new and what is gone since another answer; `since` says in words when that was. */
  compareWith(before, since) {
    const after = this.answer;
    const [old, now] = [before, after].map((answer) => new Map(resting(answer).map((one) => [sameSource(one), one])));
    this.added = new Set([...now.keys()].filter((key) => !old.has(key)));
    const gone = [...old].filter(([key]) => !now.has(key)).map(([, one]) => one);
    this.#cite();
    const runs = difference(withoutMarks(before.answer), withoutMarks(after.answer));
    const same = runs.every(([kind]) => kind === "same");
    this.changed.replaceChildren(
      el("h3", {}, `What changed, ${since}`),
      same ? el("p", { class: "hint" }, "The answer is the same.") : el("p", { class: "diff" }, ...runs.map(changedWords)),
      el("p", { class: "hint" }, counted(this.added.size, gone.length)),
      gone.length ? el("ol", { class: "gone-list" }, ...gone.map((one) => this.#citation(one, "gone"))) : "",
    );
    this.changed.dataset.same = String(same);
  }
}

/** The citations an answer's text rests on: a fact, or those whose marks stand in it. */
const resting = ({ answer, citations }) => {
  const marks = new Set(marked(answer).flatMap((piece) => piece.numbers ?? []));
  return citations.filter((one) => one.kind === "fact" || marks.has(one.n));
};

const changedWords = ([kind, text]) => {
  if (kind === "same") return text;
  return kind === "gone" ? el("del", {}, text) : el("ins", {}, text);
};

const counted = (added, gone) => {
  if (!added && !gone) return "It rests on the same sources.";
  const parts = [];
  if (added) parts.push(added === 1 ? "One source is new" : `${added} sources are new`);
  if (gone) parts.push(gone === 1 ? "one no longer stands" : `${gone} no longer stand`);
  return `${parts.join("; ")}.`;
};

const spans = (cited) => {
  const parts = [cited.dated ? `Valid ${span(cited.valid_from, cited.valid_to)}` : "Undated"];
  if (cited.recorded_from) parts.push(`on record since ${exactly(cited.recorded_from)}`);
  if (cited.page) parts.push(`page ${cited.page}`);
  if (cited.section.length) parts.push(cited.section.join(" › "));
  return parts.join(" · ");
};
