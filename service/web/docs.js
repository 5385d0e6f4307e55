// The routes of the service, drawn from its own openapi.json. It knows no route by name.

const made = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};

/** Give words with what stands between backticks as code. */
const prose = (words = "") =>
  words.split("`").map((part, i) => (i % 2 ? made("code", {}, part) : part));

const main = document.querySelector("main");
let schemas = {};

const resolved = (schema = {}) =>
  schema.$ref ? { ...schemas[schema.$ref.split("/").pop()], ...schema } : schema;

/** Say in a few words what a schema takes. */
function kind(schema) {
  const { type, anyOf, enum: values, const: only, items, $ref } = schema;
  if (anyOf) return anyOf.filter((one) => one.type !== "null").map(kind).join(" or ");
  if (values) return values.map((value) => JSON.stringify(value)).join(" · ");
  if (only !== undefined) return JSON.stringify(only);
  if (type === "array") return `list of ${kind(items ?? {})}`;
  if ($ref) return $ref.split("/").pop();
  return [type ?? "any", bounds(schema)].filter(Boolean).join(", ");
}

function bounds({ minimum, maximum, exclusiveMaximum, maxLength }) {
  const most = maximum ?? (exclusiveMaximum && `below ${exclusiveMaximum}`);
  if (minimum !== undefined && most !== undefined) return `${minimum} to ${most}`;
  return maxLength === undefined ? "" : `at most ${maxLength} characters`;
}

function fields(schema) {
  const { properties = {}, required = [] } = resolved(schema);
  return Object.entries(properties).map(([name, about]) => [
    name, kind(about), usual(about, required.includes(name)), about.description,
  ]);
}

function usual(about, required) {
  if (required) return "Required.";
  return about.default === undefined || about.default === null
    ? ""
    : `Default: \`${JSON.stringify(about.default)}\`.`;
}

function table(title, rows) {
  if (!rows.length) return [];
  const body = rows.map(([name, takes, when, about]) =>
    made("tr", {},
      made("th", { scope: "row" }, made("code", {}, name)),
      made("td", {}, takes),
      made("td", {}, ...prose([when, about].filter(Boolean).join(" ")))));
  return [made("h3", {}, title), made("div", { class: "wide" }, made("table", {}, ...body))];
}

function answers(responses) {
  return Object.entries(responses).map(([status, { description, content = {} }]) => [
    status, Object.keys(content).join(" · "), "", description,
  ]);
}

function route(method, path, operation) {
  const parameters = (operation.parameters ?? []).map((one) => [
    one.name, kind(one.schema ?? {}), `In the ${one.in}.`, one.description,
  ]);
  const body = operation.requestBody?.content["application/json"]?.schema;
  return made("details", { id: operation.operationId },
    made("summary", {},
      made("span", { class: "method" }, method.toUpperCase()),
      made("code", {}, path),
      made("span", { class: "quiet" }, operation.summary ?? "")),
    made("p", { class: "quiet" }, ...prose(operation.description)),
    ...table("Parameters", parameters),
    ...table("Body, JSON", body ? fields(body) : []),
    ...table("Answers", answers(operation.responses)));
}

function draw(described) {
  schemas = described.components?.schemas ?? {};
  const groups = new Map();
  for (const [path, methods] of Object.entries(described.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags?.[0] ?? "other";
      groups.set(tag, [...(groups.get(tag) ?? []), route(method, path, operation)]);
    }
  }
  const sections = [...groups].map(([tag, routes]) =>
    made("section", { id: `tag-${tag}`, "aria-label": tag }, made("h2", {}, tag), ...routes));
  main.replaceChildren(...sections);
  document.querySelector("nav").append(made("ul", {}, ...[...groups.keys()].map((tag) =>
    made("li", {}, made("a", { href: `#tag-${tag}` }, tag)))));
}

try {
  const answer = await fetch("openapi.json", { cache: "no-store" });
  draw(await answer.json());
} catch {
  main.textContent = "The service does not answer: see whether it runs.";
}
