// The same question at two moments, side by side, and what changed from the one to the other.

import { AnswerView } from "./answer.js";
import { postJson } from "./api.js";
import { whatChanged } from "./changes.js";
import { sameSource } from "./citations.js";
import { announce, byId, el } from "./dom.js";
import { problemNotice } from "./notices.js";
import { withoutMarks } from "./text.js";
import { dateValue, momentText } from "./time.js";

const SIDES = ["left", "right"];

const instant = (id) => (byId(id).value ? `${byId(id).value}T00:00:00Z` : null);

const moment = (side) => ({ asOf: instant(`${side}-as-of`), knownAt: instant(`${side}-known-at`) });

/** The moment as the gateway takes it, which wants an instant for now. */
const at = ({ asOf, knownAt }) => ({ as_of: asOf ?? new Date().toISOString(), known_at: knownAt });

const capital = (text) => text[0].toUpperCase() + text.slice(1);

/** The page that compares. `collection()` names the collection chosen. */
export class ComparePage {
  constructor({ collection }) {
    this.collection = collection;
    byId("compare-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#compare(byId("compare-question").value.trim());
    });
  }

  /** Fill in a question and its moment, for the other one to be chosen. */
  prepare(question, asked) {
    byId("compare-question").value = question;
    byId("left-as-of").value = asked?.asOf ? dateValue(asked.asOf) : "";
    byId("left-known-at").value = asked?.knownAt ? dateValue(asked.knownAt) : "";
    byId("right-as-of").focus();
  }

  async #compare(question) {
    if (!question) return;
    this.asking?.abort();
    const { signal } = (this.asking = new AbortController());
    const collection = this.collection();
    const moments = SIDES.map(moment);
    byId("compared").replaceChildren(el("p", { class: "waiting" }, "Opening the book at both places"));
    announce("Asking twice");
    try {
      const response = await postJson("/v1/answers/compare", { question, collection, at: moments.map(at) }, { signal });
      this.#show(await response.json(), moments, collection);
    } catch (problem) {
      if (problem.name !== "AbortError") byId("compared").replaceChildren(problemNotice(problem));
    }
  }

  #show({ answers, changes }, moments, collection) {
    const views = answers.map((answer) => {
      const view = new AnswerView(collection);
      view.show(answer);
      return view;
    });
    const said = moments.map((one) => capital(momentText(one)));
    const columns = views.map((view, n) =>
      el("article", { class: "entry", "aria-label": said[n] }, el("h3", { class: "moment" }, said[n]), view.node),
    );
    const { node, added, gone } = whatChanged(...answers, changes[0].changed ? "What changed" : "Nothing changed");
    views[0].mark("gone", new Set(gone.map(sameSource)));
    views[1].mark("new", added);
    byId("compared").replaceChildren(el("h3", { class: "question" }, answers[0].question), node, el("div", { class: "pair" }, ...columns));
    announce(answers.map((answer, n) => `${said[n]}: ${withoutMarks(answer.answer)}`).join(". "));
  }
}
