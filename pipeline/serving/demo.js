"use strict";
// Texts of users and of models reach the page as textContent only, never as markup.

const TITLES = {
  translate: ["Translate", "Text to translate", "Each family translates the text."],
  generate: ["Continue", "Beginning", "Each language model continues the text."],
  fill: ["Fill blanks", "Text with blanks", "Write a blank as ___ (three underscores)."],
  classify: ["Label", "Text to label", "Each classifier gives the probability of every label."],
  neighbours: ["Similar words", "Word", "The words whose vectors are nearest, by cosine."],
};
const TIMEOUT = 90000; // milliseconds
const $ = (id) => document.getElementById(id);
let panels = [];
let seed = 0;
let pending = null;

function element(tag, text = "", classes = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  if (classes) node.className = classes;
  return node;
}

function visible(text) {
  return text.replaceAll(" ", "␣").replaceAll("\n", "⏎");
}

function panel() {
  const command = document.querySelector("#commands input:checked").value;
  const fitting = panels.filter((item) => item.command === command);
  return fitting.find((item) => item.id === $("corpus").value) ?? fitting[0];
}

function showCommands() {
  for (const command of new Set(panels.map((item) => item.command))) {
    const label = element("label", "", "choice");
    const input = element("input");
    Object.assign(input, { type: "radio", name: "command", value: command });
    input.addEventListener("change", showCorpora);
    label.append(input, element("span", TITLES[command][0]));
    $("commands").append(label);
  }
  document.querySelector("#commands input").checked = true;
  showCorpora();
}

function showCorpora() {
  const command = document.querySelector("#commands input:checked").value;
  const fitting = panels.filter((item) => item.command === command);
  $("corpus").replaceChildren(
    ...fitting.map((item) => Object.assign(element("option", item.corpus), { value: item.id })),
  );
  $("corpora-row").hidden = fitting.length < 2;
  showPanel();
}

function showPanel() {
  pending?.abort();
  pending = null;
  const chosen = panel();
  const [, label, hint] = TITLES[chosen.command];
  $("text-label").textContent = chosen.pair ? "Premise" : label;
  $("hint").textContent = `${hint} Trained on ${chosen.corpus}: ${chosen.runs.join(", ")}.`;
  $("second-field").hidden = !chosen.pair;
  $("examples").replaceChildren(
    ...chosen.examples.map((text) => {
      const button = element("button", text.replaceAll("\t", " / "));
      button.type = "button";
      button.addEventListener("click", () => {
        write(text);
        ask();
      });
      return button;
    }),
  );
  write(chosen.examples[0] ?? "");
  clear();
  $("answers").replaceChildren();
  $("answers").setAttribute("aria-busy", "false");
  for (const id of ["again", "legend"]) $(id).hidden = true;
  $("status").textContent = "";
}

function write(text) {
  const [first, second = ""] = panel().pair ? text.split("\t") : [text];
  $("text").value = first;
  $("second").value = second;
}

function read() {
  // A line break is a space, and the tab divides a pair.
  const plain = (id) => $(id).value.replace(/\s+/g, " ");
  return panel().pair ? `${plain("text")}\t${plain("second")}` : plain("text");
}

function clear() {
  for (const id of ["problem", "unknown"]) $(id).hidden = true;
}

function fail(message) {
  $("status").textContent = "";
  $("problem").textContent = message;
  $("problem").hidden = false;
}

async function ask(number = 0) {
  seed = number;
  pending?.abort();
  const mine = (pending = new AbortController());
  const timer = setTimeout(() => mine.abort(), TIMEOUT);
  const chosen = panel();
  clear();
  $("status").textContent = "Waiting for the answers ...";
  $("answers").setAttribute("aria-busy", "true");
  try {
    const response = await fetch("/invocations", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ inputs: [read()], params: { panel: chosen.id, seed } }),
      signal: mine.signal,
    });
    const content = await response.json().catch(() => ({}));
    if (mine !== pending) return;
    if (response.ok) show(chosen, content.predictions);
    else fail(content.message ?? `The server failed with status ${response.status}.`);
  } catch (error) {
    if (mine !== pending) return;
    fail(
      error.name === "AbortError"
        ? "The answer took too long. Try a shorter text."
        : "The server does not answer. Is `seqline demo` still running?",
    );
  } finally {
    clearTimeout(timer);
    if (mine === pending) $("answers").setAttribute("aria-busy", "false");
  }
}

function show(chosen, rows) {
  $("answers").replaceChildren(...rows.map((row) => card(chosen, row)));
  const count = rows.filter((row) => row.error === undefined).length;
  $("status").textContent = count === 1 ? "1 answer." : `${count} answers.`;
  $("legend").hidden = !rows.some((row) => row.tokens?.length);
  $("again").hidden = chosen.command !== "generate";
  const unknown = [...new Set(rows.flatMap((row) => row.unknown ?? []))];
  $("unknown").hidden = unknown.length === 0;
  const shown = unknown.slice(0, 10).join(", ");
  const more = unknown.length > 10 ? ` and ${unknown.length - 10} more` : "";
  const examples = chosen.examples.length ? " Try an example above: the models know its words." : "";
  $("unknown").textContent =
    `Not among the words of ${chosen.corpus}, so read as unknown: ${shown}${more}.${examples}`;
}

function card(chosen, row) {
  const article = element("article");
  article.append(element("h2", row.setting));
  const about = [row.family === row.setting ? "" : row.family, row.run, row.score];
  article.append(element("p", about.filter(Boolean).join(" · "), "about"));
  if (row.error !== undefined) {
    article.append(element("p", row.error, "problem"));
    return article;
  }
  if (row.tokens) article.append(words(row));
  else if (row.text) article.append(element("p", row.text, "words"));
  (row.lists ?? []).forEach((list, number) => {
    if (row.lists.length > 1) article.append(element("h3", `Blank ${number + 1}`));
    article.append(bars(list, chosen.command === "neighbours"));
  });
  if (row.attention) article.append(attention(row.attention));
  return article;
}

function words(row) {
  const line = element("p", "", "words");
  line.lang = "";
  if (row.prompt.length) line.append(element("span", row.prompt.join("").trimStart(), "given"));
  row.tokens.forEach((token, number) => {
    const probability = row.probabilities[number];
    const word = element("span", "", "likely");
    const space = token.startsWith(" ") && token.length > 1;
    if (space && line.hasChildNodes()) line.append(" ");
    word.textContent = space ? token.slice(1) : token;
    const value = probability.toFixed(probability < 0.01 ? 4 : 2);
    word.append(element("small", value));
    word.tabIndex = 0;
    word.style.setProperty("--doubtful", ((1 - probability) * 0.8).toFixed(3));
    line.append(word);
  });
  if (!row.tokens.length && !row.prompt.length) line.textContent = "(an empty answer)";
  return line;
}

function bars(values, isCosine) {
  const list = element("ol", "", "list");
  for (const { name, value } of values) {
    const item = element("li");
    item.append(element("span", visible(name), "name"));
    item.append(element("span", isCosine ? value.toFixed(3) : percent(value), "value"));
    item.style.setProperty("--share", Math.max(0, Math.min(1, value)).toFixed(4));
    list.append(item);
  }
  return list;
}

function percent(value) {
  return `${(100 * value).toFixed(value < 0.001 ? 3 : 1)} %`;
}

function attention({ columns, rows, maps, limit }) {
  if (!maps.length) {
    return element("p", `Attention is drawn for texts of up to ${limit} tokens.`, "quiet");
  }
  const details = element("details");
  details.open = true;
  details.append(element("summary", "Attention: what each output word looks at"));
  const place = element("div", "", "wide");
  place.tabIndex = 0;
  place.setAttribute("role", "group");
  place.setAttribute("aria-label", "Attention weights");
  const draw = (map) => place.replaceChildren(heat(columns, rows, map.weights));
  if (maps.length > 1) {
    const line = element("p", "", "which");
    const label = element("label", "Show ");
    const select = element("select");
    select.append(...maps.map((map) => element("option", map.name)));
    select.addEventListener("change", () => draw(maps[select.selectedIndex]));
    label.append(select);
    line.append(label);
    details.append(line);
  }
  draw(maps[0]);
  details.append(place);
  return details;
}

function heat(columns, rows, weights) {
  const table = element("table", "", "heat");
  const top = element("tr");
  top.append(element("td"));
  for (const column of columns) {
    const cell = element("th");
    cell.scope = "col";
    cell.append(element("span", column));
    top.append(cell);
  }
  const head = element("thead");
  head.append(top);
  const body = element("tbody");
  rows.forEach((row, i) => {
    const line = element("tr");
    line.append(Object.assign(element("th", row), { scope: "row" }));
    weights[i].forEach((weight) => {
      const cell = element("td", "", weight > 0.5 ? "strong" : "");
      cell.append(element("span", weight.toFixed(2).replace(/^0/, "")));
      cell.style.setProperty("--weight", Math.min(1, weight).toFixed(3));
      line.append(cell);
    });
    body.append(line);
  });
  table.append(head, body);
  return table;
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
for (const id of ["text", "second"]) {
  $(id).addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      ask();
    }
  });
}
$("corpus").addEventListener("change", showPanel);
$("again").addEventListener("click", () => ask(seed + 1));
$("numbers").addEventListener("change", () => {
  document.body.classList.toggle("numbers", $("numbers").checked);
});
fetch("/panels")
  .then((response) => response.json())
  .then((content) => {
    panels = content;
    showCommands();
  })
  .catch(() => fail("The server does not answer. Is `seqline demo` still running?"));
