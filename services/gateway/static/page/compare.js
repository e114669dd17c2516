// The same question at two moments, side by side.

import { AnswerView } from "./answer.js";
import { announce, byId, el } from "./dom.js";
import { dateValue, momentText } from "./time.js";

const SIDES = ["left", "right"];

const instant = (id) => (byId(id).value ? `${byId(id).value}T00:00:00Z` : null);

const moment = (side) => ({ asOf: instant(`${side}-as-of`), knownAt: instant(`${side}-known-at`) });

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
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    const collection = this.collection();
    const views = SIDES.map(() => new AnswerView(collection));
    const moments = SIDES.map(moment);
    const columns = views.map((view, n) =>
      el("article", { class: "entry", "aria-label": momentText(moments[n]) }, el("h3", { class: "moment" }, momentText(moments[n])), view.node),
    );
    byId("compared").replaceChildren(el("div", { class: "pair" }, ...columns));
    announce("Asking twice");
    const asked = views.map((view, n) => view.ask(question, moments[n], asking.signal));
    const answers = await Promise.all(asked).catch(() => []);
    if (asking.signal.aborted || answers.length < 2 || answers.includes(null)) return;
    views[1].compareWith(answers[0], "seen from the other moment");
    announce(answers.map((answer, n) => `${momentText(moments[n])}: ${answer.answer}`).join(". "));
  }
}
