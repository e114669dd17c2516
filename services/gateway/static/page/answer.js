// One answer as it comes in: text, citations, steps; and what changed since another one.

import { Problem } from "./api.js";
import { whatChanged } from "./changes.js";
import { citationItem, mark, resting, sameSource } from "./citations.js";
import { el } from "./dom.js";
import { feedback } from "./feedback.js";
import { answerEvents } from "./listening.js";
import { abstainedNotice, degradedNotice, problemNotice } from "./notices.js";
import { marked } from "./text.js";
import { exactly } from "./time.js";
import { waterfall } from "./waterfall.js";

const GROUNDING = {
  generated: "Written from the evidence, each sentence checked against it.",
  quoted: "Quoted from the record, word for word.",
};

const NEXT = { encode: "Looking it up", retrieve: "Reading what was found", evidence: "Writing" };

const asRead = ({ moment, moment_phrase: phrase }) =>
  phrase ? `Read as of ${exactly(moment.as_of)}, for the question says “${phrase}”.` : null;

const asPut = ({ original, question }) => (original ? `Read as “${question}”, after what was asked before.` : null);

/** The answer to one question at one moment. */
export class AnswerView {
  constructor(collection) {
    this.collection = collection;
    this.text = "";
    this.citations = [];
    this.answer = null;
    this.words = el("div", { class: "words", "aria-busy": "true" });
    this.doing = el("p", { class: "hint doing" });
    this.notices = el("div", { class: "notices" });
    this.changed = el("div", {});
    this.cited = el("div", { class: "cited" });
    this.foot = el("div", { class: "foot" });
    this.node = el("div", { class: "answer" }, this.notices, this.words, this.doing, this.changed, this.cited, this.foot);
  }

  /** Ask and show what comes; the finished answer, or null where it failed. An abort raises AbortError. */
  async ask({ question, history = [] }, { asOf, knownAt }, signal) {
    const body = { question, collection: this.collection };
    if (history.length) body.history = history;
    if (asOf) body.as_of = asOf;
    if (knownAt) body.known_at = knownAt;
    try {
      for await (const event of answerEvents(body, signal)) this.#take(event);
    } catch (problem) {
      if (problem.name === "AbortError") throw problem;
      this.#fail(problem);
    }
    this.#rest();
    return this.answer;
  }

  #take({ name, data }) {
    if (name === "text") this.text += data.text;
    else if (name === "citation") this.citations.push(data.citation);
    else if (name === "step") this.doing.textContent = NEXT[data.step] ?? this.doing.textContent;
    else if (name === "done") this.show(data.answer);
    else if (name === "error") this.#fail(new Problem(data.problem));
    if (name === "text") this.#write();
    if (name === "citation") this.#cite();
  }

  /** A finished answer. */
  show(answer) {
    Object.assign(this, { answer, text: answer.answer, citations: answer.citations });
    const abstained = answer.grounding === "abstained";
    if (answer.degraded.length) this.notices.append(degradedNotice(answer.degraded));
    if (abstained) this.notices.append(abstainedNotice(answer.citations.length));
    this.#rest();
    this.#write();
    this.#cite();
    const kept = answer.cached_from && "Given before, and the same still.";
    const notes = [asPut(answer), asRead(answer), GROUNDING[answer.grounding], kept];
    this.foot.replaceChildren(
      ...notes.filter(Boolean).map((note) => el("p", { class: "hint" }, note)),
      waterfall(answer),
      feedback(answer.id),
    );
  }

  #rest() {
    this.words.removeAttribute("aria-busy");
    this.doing.textContent = "";
  }

  #fail(problem) {
    this.notices.append(problemNotice(problem));
  }

  #write() {
    const pieces = marked(this.text).flatMap(({ text, last, numbers }) => (numbers ? this.#marks(last, numbers) : text));
    this.words.replaceChildren(el("p", {}, ...pieces));
  }

  #marks(word, numbers) {
    const cited = (n) => this.citations.find((one) => one.n === n);
    return el("span", { class: "sups" }, word, ...numbers.map((n) => mark(n, cited(n), this.collection)));
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
    return el("section", {}, el("h3", {}, heading), this.#items(citations));
  }

  #folded(heading, citations) {
    if (!citations.length) return "";
    return el("details", {}, el("summary", {}, `${heading} (${citations.length})`), this.#items(citations));
  }

  #items(citations) {
    const item = (one) => citationItem(one, this.collection, this.marked?.has(sameSource(one)) ? this.state : "");
    return el("ol", {}, ...citations.map(item));
  }

  /** Show what is new and what is gone since another answer; `heading` says in words which one that is. */
  compareWith(before, heading) {
    const { node, added, gone } = whatChanged(before, this.answer, heading);
    this.mark("new", added);
    const items = gone.map((one) => citationItem(one, this.collection, "gone"));
    if (gone.length) node.append(el("ol", { class: "gone-list" }, ...items));
    this.changed.replaceChildren(node);
  }

  /** Mark citations, named by `sameSource`, as "new" or "gone". */
  mark(state, marked) {
    Object.assign(this, { state, marked });
    this.#cite();
  }
}
