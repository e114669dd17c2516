// The page: its views, and the collection they share.

import { getJson } from "./api.js";
import { AskPage } from "./ask.js";
import { ComparePage } from "./compare.js";
import { byId, el } from "./dom.js";
import { LibraryPage } from "./library.js";
import { problemNotice } from "./notices.js";
import { showSky, startSky } from "./sky.js";
import { startSource } from "./source.js";
import { TimelinePage } from "./timeline.js";
import { startUpload } from "./upload.js";

const VIEWS = ["ask", "compare", "timeline", "library"];

const FIRST = "default"; // the collection that is there without a name

const collection = () => byId("collection").value || FIRST;

const shown = () => (VIEWS.includes(location.hash.slice(1)) ? location.hash.slice(1) : "ask");

const turnTo = (name) => {
  for (const view of VIEWS) byId(view).hidden = view !== name;
  for (const link of document.querySelectorAll(".bar nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
};

/** Turn to a view and do something there. */
const to = (name, then) => {
  location.hash = `#${name}`;
  turnTo(name);
  return then();
};

const choose = (collections, wanted) => {
  const select = byId("collection");
  byId("empty").hidden = collections.length > 0;
  const before = wanted ?? select.value;
  const named = collections.map(({ name }) => el("option", { value: name }, name));
  select.replaceChildren(...(named.length ? named : [el("option", { value: "" }, "none yet")]));
  if (collections.some(({ name }) => name === before)) select.value = before;
  byId("upload-collection").value ||= collection();
};

const start = async () => {
  byId("late").remove();
  startSky();
  showSky(null);
  startSource();
  const compare = new ComparePage({ collection });
  const library = new LibraryPage({ collection });
  const timeline = new TimelinePage({ collection, ask: (asked) => to("ask", () => ask.again(asked)) });
  const ask = new AskPage({
    collection,
    compare: (entry) => to("compare", () => compare.prepare(entry.question, entry.wanted)),
    trace: (entry) => to("timeline", () => timeline.prepare(entry.question, entry.wanted)),
  });
  const changed = async () => {
    if (!byId("collection").value) return;
    library.refresh();
    await ask.refresh();
  };
  const load = async (wanted) => {
    const { collections } = await getJson("/v1/collections");
    choose(collections, wanted);
    library.showCollections(collections);
    await changed();
  };
  byId("collection").addEventListener("change", () => {
    byId("upload-collection").value = collection();
    changed();
  });
  startUpload(load);
  addEventListener("hashchange", () => {
    turnTo(shown());
    if (!byId(shown()).contains(document.activeElement)) byId(`${shown()}-heading`).focus();
  });
  turnTo(shown());
  await load().catch((problem) => byId("entries").prepend(problemNotice(problem)));
  document.body.dataset.ready = "true";
};

start();
