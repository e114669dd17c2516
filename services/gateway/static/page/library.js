// What there is: collections, documents, and the versions of one.

import { getJson, latest } from "./api.js";
import { byId, el } from "./dom.js";
import { problemNotice } from "./notices.js";
import { day } from "./time.js";
import { hideVersions, showVersions } from "./versions.js";

const PAGE = 50;

const cells = (tag, values) => values.map((value) => el(tag, tag === "th" ? { scope: "col" } : {}, value));

const table = (collections) =>
  el(
    "table",
    {},
    el("thead", {}, el("tr", {}, ...cells("th", ["Name", "Documents", "Facts", "On record to"]))),
    el(
      "tbody",
      {},
      ...collections.map((one) =>
        el("tr", {}, ...cells("td", [one.name, String(one.documents), String(one.facts), one.recorded_to ? day(one.recorded_to, "short") : "–"])),
      ),
    ),
  );

/** The page of what there is. `collection()` names the collection chosen. */
export class LibraryPage {
  constructor({ collection }) {
    Object.assign(this, { collection, turn: latest() });
    byId("documents-more").addEventListener("click", () => this.#documents(this.last));
  }

  showCollections(collections) {
    const none = el("p", { class: "hint" }, "Nothing is on record yet. Take something in.");
    byId("collections").replaceChildren(collections.length ? table(collections) : none);
  }

  /** The collection chosen has changed, or what is in it. */
  refresh() {
    hideVersions();
    byId("documents").replaceChildren();
    this.#documents("");
  }

  async #documents(after) {
    const current = this.turn();
    const query = new URLSearchParams({ collection: this.collection(), limit: PAGE, after });
    try {
      const { documents } = await getJson(`/v1/documents?${query}`);
      if (!current()) return;
      byId("documents").append(...documents.map((one) => this.#document(one)));
      this.last = documents.at(-1)?.doc_id ?? after;
      byId("documents-more").hidden = documents.length < PAGE;
    } catch (problem) {
      if (current()) byId("documents").append(el("li", {}, problemNotice(problem)));
    }
  }

  #document({ doc_id: docId, title, versions }) {
    const open = () => showVersions(docId, this.collection());
    return el(
      "li",
      {},
      el("button", { type: "button", class: "title", onclick: open }, title || docId),
      el("span", { class: "hint" }, `${docId} · ${versions} ${versions === 1 ? "version" : "versions"}`),
    );
  }
}
