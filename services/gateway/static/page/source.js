// The cited page beside the answer: a version's text as it was parsed, the quote marked and brought into view.

import { documentPath, getJson, latest } from "./api.js";
import { announce, byId, el, safeUrl } from "./dom.js";
import { problemNotice } from "./notices.js";
import { utf16Index } from "./text.js";
import { exactly, span } from "./time.js";

const AROUND = 60_000; // characters shown on either side of a quote

const turn = latest();

let opener = null;

const panel = () => byId("source");

const heading = (marks, words) => el("span", { class: "heading" }, el("span", { class: "hashes" }, marks), words);

/** Text as it is, with its headings set as such. */
const set = (text) =>
  text.split(/(^#{1,6} .*$)/m).map((part) => {
    const [, marks, words] = /^(#{1,6} )(.*)$/.exec(part) ?? [];
    return marks ? heading(marks, words) : part;
  });

const linked = (uri) => {
  const href = safeUrl(uri);
  return href ? el("a", { href, rel: "noreferrer noopener", target: "_blank" }, uri) : uri;
};

const entry = (name, value) => (value ? [el("dt", {}, name), el("dd", {}, value)] : []);

const particulars = (cited) =>
  el(
    "dl",
    {},
    ...entry("Valid", cited.dated === false ? "undated" : span(cited.valid_from, cited.valid_to)),
    ...entry("On record", cited.recorded_from && `since ${exactly(cited.recorded_from)}`),
    ...entry("Superseded", cited.recorded_to && `on ${exactly(cited.recorded_to)}`),
    ...entry("Section", cited.section?.join(" › ")),
    ...entry("Page", cited.page && String(cited.page)),
    ...entry("Source", cited.uri && linked(cited.uri)),
  );

const body = (text, start, end) => {
  const [from, to] = [utf16Index(text, start), utf16Index(text, end)];
  const [first, last] = [Math.max(0, from - AROUND), Math.min(text.length, to + AROUND)];
  const mark = el("mark", { id: "quoted" }, text.slice(from, to));
  const quoted = to > from ? mark : null;
  return el(
    "div",
    { class: "text", tabindex: "0", role: "region", "aria-label": "The text as it was recorded" },
    first > 0 ? el("p", { class: "hint" }, "The beginning is not shown.") : null,
    ...set(text.slice(first, from)),
    quoted,
    ...set(text.slice(to, last)),
    last < text.length ? el("p", { class: "hint" }, "The end is not shown.") : null,
  );
};

const head = (kind, title) =>
  el(
    "header",
    {},
    el("p", { class: "kind" }, kind),
    el("h2", { id: "source-heading", tabindex: "-1" }, title || "Untitled"),
    el("button", { type: "button", class: "quiet close", onclick: closeSource }, "Close"),
  );

const show = (...children) => {
  panel().replaceChildren(...children);
  panel().hidden = false;
  document.body.classList.add("beside");
  opener?.scrollIntoView({ block: "nearest" });
  byId("source-heading").focus({ preventScroll: true });
};

/** Open what is cited: a citation, or a version with no quote in it. */
export const openSource = async (cited, collection, from) => {
  const current = turn();
  opener = from;
  if (cited.kind === "fact") {
    const quote = el("div", { class: "text" }, el("mark", { id: "quoted" }, cited.quote));
    show(head("A fact on record", cited.title), particulars(cited), quote);
    return;
  }
  try {
    const path = `${documentPath(cited.doc_id)}/versions/${encodeURIComponent(cited.version_id)}`;
    const version = await getJson(`${path}?collection=${encodeURIComponent(collection)}`);
    if (!current()) return;
    const text = body(version.text, cited.start ?? 0, cited.end ?? 0);
    show(head(`Document ${version.doc_id}`, version.title), particulars({ ...version, ...cited }), text);
    byId("quoted")?.scrollIntoView({ block: "center" });
    announce(`Opened ${version.title}`);
  } catch (problem) {
    if (current()) show(head(`Document ${cited.doc_id}`, cited.title), problemNotice(problem));
  }
};

export function closeSource() {
  turn();
  panel().hidden = true;
  panel().replaceChildren();
  document.body.classList.remove("beside");
  opener?.focus();
}

export const startSource = () => {
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !panel().hidden) closeSource();
  });
};
