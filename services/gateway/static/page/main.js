// The page: its three views, and the collection they share.

import { getJson } from "./api.js";
import { AskPage } from "./ask.js";
import { ComparePage } from "./compare.js";
import { byId, el } from "./dom.js";
import { LibraryPage } from "./library.js";
import { problemNotice } from "./notices.js";
import { showSky, startSky } from "./sky.js";
import { startSource } from "./source.js";
import { startUpload } from "./upload.js";

const VIEWS = ["ask", "compare", "library"];

const collection = () => byId("collection").value;

const shown = () => (VIEWS.includes(location.hash.slice(1)) ? location.hash.slice(1) : "ask");

const turnTo = (name) => {
  for (const view of VIEWS) byId(view).hidden = view !== name;
  for (const link of document.querySelectorAll(".bar nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
};

const choose = (collections, wanted) => {
  const select = byId("collection");
  const before = wanted ?? select.value;
  select.replaceChildren(...collections.map(({ name }) => el("option", { value: name }, name)));
  if (collections.some(({ name }) => name === before)) select.value = before;
  byId("upload-collection").value ||= collection() || "default";
};

const start = async () => {
  startSky();
  showSky(null);
  startSource();
  const compare = new ComparePage({ collection });
  const library = new LibraryPage({ collection });
  const toCompare = (entry) => {
    location.hash = "#compare";
    turnTo("compare");
    compare.prepare(entry.question, entry.wanted);
  };
  const ask = new AskPage({ collection, compare: toCompare });
  const changed = () => {
    library.refresh();
    return ask.refresh();
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
