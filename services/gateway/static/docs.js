"use strict";

const make = (tag, text, parent) => {
  const made = document.createElement(tag);
  made.textContent = text;
  parent.append(made);
  return made;
};

const parameter = (one) =>
  `${one.name} (${one.in}${one.required ? "" : ", optional"}): ${JSON.stringify(one.schema)}`;

const operation = (method, path, described, parent) => {
  const shown = document.createElement("details");
  const summary = document.createElement("summary");
  make("b", method.toUpperCase(), summary);
  make("code", path, summary);
  shown.append(summary);
  make("p", described.description || described.summary || "", shown);
  if (described.parameters) make("pre", described.parameters.map(parameter).join("\n"), shown);
  for (const [kind, body] of Object.entries(described.requestBody?.content || {})) {
    make("p", `Body: ${kind}`, shown);
    make("pre", JSON.stringify(body.schema, null, 2), shown);
  }
  parent.append(shown);
};

const show = (api) => {
  const list = document.getElementById("operations");
  list.replaceChildren();
  const groups = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, described] of Object.entries(methods)) {
      const tag = described.tags?.[0] || "other";
      if (!groups.has(tag)) {
        make("h2", tag, list);
        groups.set(tag, list.appendChild(document.createElement("section")));
      }
      operation(method, path, described, groups.get(tag));
    }
  }
};

fetch("/openapi.json").then((response) => response.json()).then(show);
