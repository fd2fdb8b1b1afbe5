"use strict";
// The review: items are filtered into a view, one of them is in focus, and decisions are kept in the browser.
// A decision is [kind, class]; the kinds are those of a decisions file.

const data = JSON.parse(document.getElementById("data").textContent);
const items = data.items;
const KEY = "dmis-review:" + data.data.images + ":" + data.data.labels;
const AT_ONCE = 60;
const $ = (id) => document.getElementById(id);

let decisions = new Map(); // item -> [kind, class or null]
let history = []; // [item, previous decision]
let view = []; // items that pass the filters, in order
let focus = items.length ? 0 : -1;
let shown = AT_ONCE;

// ---- storage ----

function keep() {
  try {
    localStorage.setItem(KEY, JSON.stringify([...decisions].map(([i, d]) => [items[i].row, ...d])));
  } catch (error) {
    $("warn").textContent = "This browser stores nothing for this page (" + error.name + "): save before you close it.";
  }
}

function recall() {
  let kept = [];
  try {
    kept = JSON.parse(localStorage.getItem(KEY)) || [];
  } catch (error) {
    $("warn").textContent = "This browser stores nothing for this page (" + error.name + "): save before you close it.";
  }
  const byRow = new Map(items.map((item, i) => [item.row, i]));
  for (const [row, kind, label] of Array.isArray(kept) ? kept : []) {
    if (byRow.has(row)) decisions.set(byRow.get(row), [kind, label]);
  }
}

// ---- decisions ----

function kindOf(item, label) {
  return label === item.suggested && !isGiven(item, label) ? "accepted" : isGiven(item, label) ? "rejected" : "changed";
}

function isGiven(item, label) {
  return item.given.length === 1 && item.given[0] === label;
}

function decide(i, decision) {
  history.push([i, decisions.get(i)]);
  if (decision) decisions.set(i, decision);
  else decisions.delete(i);
  keep();
}

function choose(label) {
  if (focus < 0) return;
  decide(focus, [kindOf(items[focus], label), label]);
  advance();
}

function accept() {
  if (focus >= 0 && !$("accept").disabled) choose(items[focus].suggested);
}

function reject() {
  if (focus < 0) return;
  const given = items[focus].given;
  decide(focus, ["rejected", given.length === 1 ? given[0] : null]);
  advance();
}

function undo() {
  const last = history.pop();
  if (!last) return;
  const [i, before] = last;
  if (before) decisions.set(i, before);
  else decisions.delete(i);
  keep();
  focus = i;
  refresh(true);
}

function advance() {
  const after = view.slice(view.indexOf(focus) + 1);
  const open = [...after, ...view].find((i) => !decisions.has(i) && i !== focus);
  if (open !== undefined) focus = open;
  refresh(true);
}

function step(by) {
  if (!view.length) return;
  const place = view.indexOf(focus) + by;
  focus = view[Math.min(Math.max(place, 0), view.length - 1)];
  refresh(true);
}

// ---- the view ----

function passes(i) {
  const item = items[i];
  const kind = $("kind").value;
  const state = $("state").value;
  const isNew = item.suggested !== (item.given.length === 1 ? item.given[0] : -1);
  if (kind === "wrong" && !item.wrong) return false;
  if (kind === "new" && (item.wrong || !isNew)) return false;
  if (kind === "twins" && !item.twins.length) return false;
  if (kind === "outlier" && !item.outlier) return false;
  if (state === "open" && decisions.has(i)) return false;
  if (state === "decided" && !decisions.has(i)) return false;
  const given = $("given").value;
  if (given === "none" ? item.given.length : given !== "" && !item.given.includes(Number(given))) return false;
  if ($("suggested").value !== "" && item.suggested !== Number($("suggested").value)) return false;
  return 100 * confidence(item) >= Number($("confidence").value);
}

function confidence(item) {
  const found = item.likeliest.find(([y]) => y === item.suggested);
  return found ? found[1] : 0;
}

function refresh(scroll) {
  const before = view;
  view = items.map((_, i) => i).filter(passes);
  if (!view.includes(focus) && view.length) {
    const place = Math.max(before.indexOf(focus), 0);
    focus = before.slice(place).find((i) => view.includes(i)) ?? view[view.length - 1];
  }
  if (view.length && view.indexOf(focus) >= shown) shown = view.indexOf(focus) + AT_ONCE;
  drawCount();
  drawFocus();
  drawThumbs();
  drawAside();
  if (scroll && view.length) nearby($("focus"));
}

function nearby(element) {
  const box = element.getBoundingClientRect();
  if (box.top < 0 || box.top > innerHeight / 2) element.scrollIntoView({ block: "start" });
}

// ---- drawing ----

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function name(y) {
  return data.classes[y];
}

function givenText(item) {
  return item.given.length ? item.given.map(name).join(" | ") : "no label";
}

function show(img, item) {
  const source = item.picture || item.original;
  img.hidden = !source;
  if (source) img.src = source;
  else img.removeAttribute("src");
  img.alt = "image " + item.shown;
  img.onload = () => img.classList.toggle("small", img.naturalWidth <= 96);
}

function drawCount() {
  const counts = { accepted: 0, changed: 0, rejected: 0 };
  for (const [kind] of decisions.values()) counts[kind] += 1;
  const bars = document.querySelectorAll(".progress i");
  Object.values(counts).forEach((count, place) => (bars[place].style.width = (100 * count) / items.length + "%"));
  const bar = document.querySelector(".progress");
  bar.setAttribute("aria-valuemax", items.length);
  bar.setAttribute("aria-valuenow", decisions.size);
  $("count").textContent =
    `${decisions.size} of ${items.length} decided: ${counts.accepted} accepted, ${counts.changed} changed, ` +
    `${counts.rejected} kept as given. ${view.length} in view.`;
}

function drawFocus() {
  $("nothing").hidden = view.length > 0;
  $("focus").hidden = !view.length;
  $("focus").style.display = view.length ? "" : "none";
  if (!view.length) return;
  const item = items[focus];
  const decision = decisions.get(focus);
  show($("picture"), item);
  const verdict = $("verdict");
  verdict.replaceChildren();
  if (isGiven(item, item.suggested)) verdict.append(element("b", givenText(item)), item.wrong ? " – is it?" : "");
  else verdict.append(element("s", givenText(item)), " → ", element("b", name(item.suggested)));
  verdict.append(" " + Math.round(100 * confidence(item)) + " %");
  const where = $("where");
  where.replaceChildren(`${view.indexOf(focus) + 1} of ${view.length}: `);
  if (item.original) {
    const link = element("a", item.shown);
    link.href = item.original;
    link.target = "_blank";
    link.rel = "noopener";
    where.append(link);
  } else where.append(item.shown);
  const badges = $("badges");
  badges.replaceChildren();
  if (decision) {
    const to = decision[1] === null ? "" : ": " + name(decision[1]);
    badges.append(element("span", (decision[0] === "rejected" ? "kept" : decision[0]) + to, "done " + decision[0]));
  }
  if (item.wrong) badges.append(element("span", "likely wrong"));
  if (item.twins.length) badges.append(element("span", "near-duplicate with another label"));
  if (item.outlier) badges.append(element("span", "outlier"));
  if (item.true !== null) badges.append(element("span", "true class: " + name(item.true)));
  const choices = $("choices");
  choices.replaceChildren();
  item.likeliest.forEach(([y, probability], place) => {
    const button = element("button", undefined, decision && decision[1] === y ? "now" : "");
    const percent = (100 * probability).toFixed(probability < 0.1 ? 1 : 0) + " %";
    button.append(element("kbd", String(place + 1)), element("span", name(y) + (isGiven(item, y) ? " (given)" : "")), element("em", percent));
    button.style.setProperty("--share", 100 * probability + "%");
    button.onclick = () => choose(y);
    choices.append(button);
  });
  $("accept").disabled = isGiven(item, item.suggested);
  label($("accept"), "Accept " + name(item.suggested), "A");
  label($("reject"), item.given.length === 1 ? "Keep " + givenText(item) : "Leave as it is", "R");
  $("undo").disabled = !history.length;
  $("beside").replaceChildren(...item.twins.map((i) => thumb(i)));
}

function label(button, text, key) {
  button.replaceChildren(text + " ", element("kbd", key));
}

function thumb(i) {
  const item = items[i];
  const decision = decisions.get(i);
  const button = element("button", undefined, "thumb " + (decision ? decision[0] : "") + (i === focus ? " here" : ""));
  const img = element("img");
  img.loading = "lazy";
  if (item.picture || item.original) show(img, item);
  button.append(item.picture || item.original ? img : element("div", "", "none"));
  const now = decision && decision[1] !== null ? name(decision[1]) : null;
  button.append(element("b", now ?? (isGiven(item, item.suggested) ? givenText(item) : givenText(item) + " → " + name(item.suggested))));
  button.onclick = () => {
    if (!passes(i)) for (const id of ["kind", "state", "given", "suggested"]) $(id).selectedIndex = 0;
    if (!passes(i)) setConfidence(0);
    focus = i;
    refresh(true);
  };
  return button;
}

function drawThumbs() {
  $("thumbs").replaceChildren(...view.slice(0, shown).map(thumb));
  $("more").hidden = view.length <= shown;
}

function drawAside() {
  const groups = [];
  const seen = new Set();
  items.forEach((item, i) => {
    if (item.twins.length && !seen.has(i)) {
      const group = [i, ...item.twins];
      group.forEach((member) => seen.add(member));
      groups.push(group);
    }
  });
  $("doubles").hidden = !groups.length;
  $("groups").replaceChildren(
    ...groups.map((group) => {
      const row = element("div", undefined, "twins");
      row.append(...group.map(thumb));
      return row;
    }),
  );
  const odd = items.map((_, i) => i).filter((i) => items[i].outlier);
  $("odd").hidden = !odd.length;
  $("outliers").replaceChildren(...odd.map(thumb));
}

// ---- saving ----

function decided() {
  return [...decisions.entries()]
    .sort(([a], [b]) => items[a].row - items[b].row)
    .map(([i, [kind, label]]) => ({ file: items[i].file, decision: kind, label: label === null ? null : data.names[label] }));
}

function download(text, file, type) {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function saveDecisions() {
  const file = { format: "dmis-decisions/1", data: data.data, decisions: decided() };
  download(JSON.stringify(file, null, 1) + "\n", "decisions.json", "application/json");
}

function saveLabels() {
  const lines = data.rows.map((row) => row.join(","));
  for (const [i, [, label]] of decisions) {
    const row = items[i].row;
    if (label !== null) lines[row] = [data.rows[row][0], data.cells[label], "yes"].join(",");
  }
  download(["file,label,trusted", ...lines].join("\n") + "\n", "labels.csv", "text/csv");
}

async function load(file) {
  try {
    const found = JSON.parse(await file.text());
    const same = ["images", "labels"].every((key) => found.data[key] === data.data[key]);
    if (found.format !== "dmis-decisions/1" || !same) throw new Error("its decisions are about other data");
    const byFile = new Map(items.map((item, i) => [item.file, i]));
    const known = found.decisions.filter((one) => byFile.has(one.file));
    for (const one of known) {
      const label = data.names.indexOf(one.label);
      if (!["accepted", "changed", "rejected"].includes(one.decision)) throw new Error("a decision is damaged");
      decide(byFile.get(one.file), [one.decision, label < 0 ? null : label]);
    }
    $("loaded").textContent = `${known.length} decisions loaded from ${file.name}.`;
  } catch (error) {
    $("loaded").textContent = `${file.name} cannot be loaded: ${error.message}.`;
  }
  refresh(false);
}

// ---- wiring ----

function setConfidence(value) {
  $("confidence").value = value;
  $("least").textContent = value;
}

function begin() {
  const options = data.classes.map((text, y) => {
    const option = element("option", text);
    option.value = y;
    return option;
  });
  $("given").append(...options.map((option) => option.cloneNode(true)));
  if (items.some((item) => !item.given.length)) {
    const none = element("option", "no label");
    none.value = "none";
    $("given").append(none);
  }
  $("suggested").append(...options);
  $("names").append(...data.classes.map((text) => Object.assign(element("option"), { value: text })));
  for (const id of ["kind", "state", "given", "suggested"]) {
    $(id).onchange = () => {
      shown = AT_ONCE;
      refresh(false);
      $(id).blur();
    };
  }
  $("confidence").oninput = () => {
    setConfidence($("confidence").value);
    refresh(false);
  };
  const other = (whole) => {
    const label = data.classes.indexOf($("other").value);
    if (label < 0 || !whole) return;
    $("other").value = "";
    $("other").blur();
    choose(label);
  };
  $("other").onchange = () => other(true);
  $("other").oninput = (event) => other(!event.inputType || event.inputType === "insertReplacementText"); // picked
  const clicks = {
    accept,
    reject,
    undo,
    next: () => step(1),
    back: () => step(-1),
    more: () => { shown += AT_ONCE; drawThumbs(); },
    load: () => $("file").click(),
    "save-decisions": saveDecisions,
    "save-labels": saveLabels,
  };
  for (const [id, act] of Object.entries(clicks)) $(id).onclick = act;
  $("file").onchange = () => {
    if ($("file").files.length) load($("file").files[0]);
    $("file").value = "";
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || ["SELECT", "INPUT"].includes(event.target.tagName)) return;
    const on = event.target.tagName;
    const acts = {
      a: accept, r: reject, u: undo, s: saveDecisions, j: () => step(1), k: () => step(-1),
      ArrowRight: () => step(1), ArrowLeft: () => step(-1), c: () => $("other").focus(),
      Enter: on === "BUTTON" || on === "A" || on === "SUMMARY" ? undefined : accept,
    };
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const digit = /^[1-9]$/.test(key) && focus >= 0 && view.length ? items[focus].likeliest[Number(key) - 1] : undefined;
    const act = digit ? () => choose(digit[0]) : acts[key];
    if (act && (view.length || key === "u" || key === "s")) {
      event.preventDefault();
      act();
    }
  });
  recall();
  if (items.some((item) => item.wrong)) $("kind").value = "wrong";
  view = items.map((_, i) => i).filter(passes);
  if (view.length) focus = view.find((i) => !decisions.has(i)) ?? view[0];
  refresh(false);
}

begin();
