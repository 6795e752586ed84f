"use strict";
// Every address is relative to the page's own, so that it works behind a stage or a custom path.
const base = location.href.replace(/[?#].*$/, "").replace(/\/?$/, "/");
const $ = (selector, within = document) => within.querySelector(selector);
const panel = $("#panel");
let asked = 0;

function made(name, content, properties = {}) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...[content ?? []].flat());
  return element;
}

async function call(path, options = {}) {
  const begun = performance.now();
  const response = await fetch(base + path, { signal: AbortSignal.timeout(120000), ...options });
  const text = await response.text();
  $("#took").textContent = `${response.status} in ${Math.round(performance.now() - begun)} ms`;
  let answer;
  try { answer = JSON.parse(text); } catch { answer = { error: text.slice(0, 300) || response.statusText }; }
  const error = answer?.error?.message ?? answer?.error;
  if (!response.ok) throw new Error(error ?? `status ${response.status}`);
  return answer;
}

const posted = (path, body) =>
  call(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

// Shows what `work` gives; an answer that was overtaken by a newer question is dropped.
async function show(work, draw) {
  const place = $(".answer", panel), mine = ++asked;
  place.replaceChildren(made("p", "Working…", { className: "soft" }));
  for (const button of panel.querySelectorAll("form button")) button.disabled = true;
  try {
    const answer = await work();
    if (mine === asked) place.replaceChildren(...[draw(answer)].flat());
  } catch (error) {
    if (mine === asked) place.replaceChildren(made("p", error.message, { className: "error", role: "alert" }));
  } finally {
    if (mine === asked) for (const button of panel.querySelectorAll("form button")) button.disabled = false;
  }
}

const percent = (share) => `${(share * 100).toFixed(1)} %`;

function bars(rows) {
  return made("ol", rows.map(([name, value, written]) => made("li", [
    made("div", [made("b", name), made("span", written ?? percent(value))]),
    made("meter", null, { min: 0, max: 1, value: Math.max(0, Math.min(1, value)) }),
  ])));
}

const labels = (answer) => bars((Array.isArray(answer[0]) ? answer[0] : answer).map((l) => [l.label, l.score]));

function lines(answer, stage) {
  const svg = $("svg", stage), image = $("img", stage);
  svg.setAttribute("viewBox", `0 0 ${image.naturalWidth} ${image.naturalHeight}`);
  const boxes = answer.lines.map((line) => {
    const box = document.createElementNS("http://www.w3.org/2000/svg", "polygon");
    box.setAttribute("points", line.box.map((corner) => corner.join()).join(" "));
    return box;
  });
  svg.replaceChildren(...boxes);
  const items = answer.lines.map((line, at) => {
    const item = made("li", made("div", [made("b", line.text), made("span", percent(line.confidence))]));
    for (const [event, on] of [["mouseenter", true], ["mouseleave", false]]) {
      for (const element of [item, boxes[at]]) {
        element.addEventListener(event, () => [item, boxes[at]].forEach((e) => e.classList.toggle("on", on)));
      }
    }
    return item;
  });
  return [made("p", answer.predicted_label || "No text found", { className: "whole" }), made("ol", items)];
}

function ofPicture(model) {
  const drop = $(".drop", panel), input = $("input", drop), figure = $("figure", panel), image = $("img", figure);
  const send = async (file) => {
    if (!file) return;
    URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(file);
    $("svg", figure).replaceChildren();
    const headers = { "content-type": file.type || "application/octet-stream" };
    figure.hidden = await image.decode().then(() => false, () => true);
    const path = model.task === "ocr" ? `ocr?model=${encodeURIComponent(model.name)}` : `models/${encodeURIComponent(model.name)}`;
    await show(() => call(path, { method: "POST", headers, body: file }),
      (answer) => (model.task === "ocr" ? lines(answer, figure) : labels(answer)));
  };
  input.addEventListener("change", () => send(input.files[0]));
  for (const event of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(event, (e) => {
      e.preventDefault();
      drop.classList.toggle("over", event === "dragover");
      if (event === "drop") send(e.dataTransfer.files[0]);
    });
  }
  panel.onpaste = (e) => send([...e.clipboardData.files][0]);
}

function onSubmit(handle) {
  const form = $("form", panel);
  form.addEventListener("submit", (e) => { e.preventDefault(); handle(); });
  form.addEventListener("keydown", (e) => { if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) form.requestSubmit(); });
}

function ofText(model) {
  const text = $("textarea", panel);
  onSubmit(() => show(() => posted(`models/${encodeURIComponent(model.name)}`, { inputs: text.value }), labels));
}

function ofSimilarity(model) {
  const [query, others] = panel.querySelectorAll("textarea");
  onSubmit(() => show(async () => {
    const texts = others.value.split("\n").filter((line) => line.trim());
    const [first, ...rest] = await posted(`models/${encodeURIComponent(model.name)}`, { inputs: [query.value, ...texts] });
    return texts.map((text, at) => [text, cosine(first, rest[at])]).sort((a, b) => b[1] - a[1]);
  }, (rows) => bars(rows.map(([text, likeness]) => [text, likeness, likeness.toFixed(3)]))));
}

function cosine(a, b) {
  const dot = (x, y) => x.reduce((sum, value, at) => sum + value * y[at], 0);
  return dot(a, b) / (Math.sqrt(dot(a, a) * dot(b, b)) || 1);
}

async function ofTensor(model) {
  const path = `v2/models/${encodeURIComponent(model.name)}`, text = $("textarea", panel);
  onSubmit(() => show(() => posted(`${path}/infer`, JSON.parse(text.value)),
    (answer) => made("pre", JSON.stringify(answer, null, 1))));
  try {
    const { inputs, outputs } = await call(path);
    const row = (kind) => (port) =>
      made("tr", [kind, port.name, port.datatype, `[${port.shape.map((d) => (d < 0 ? "?" : d)).join(", ")}]`].map((v) => made("td", v)));
    $("tbody", panel).replaceChildren(...inputs.map(row("in")), ...outputs.map(row("out")));
    const example = inputs.map(({ name, datatype, shape }) => {
      const sizes = shape.map((d) => (d < 0 ? 1 : d)), count = sizes.reduce((a, b) => a * b, 1);
      const one = datatype === "BYTES" ? "" : datatype === "BOOL" ? false : 0;
      return { name, datatype, shape: sizes, data: Array(Math.min(count, 4096)).fill(one) };
    });
    // Half-precision numbers have no form in JSON: asked for what has one.
    const readable = outputs.filter(({ datatype }) => !["FP16", "BF16"].includes(datatype));
    text.value = JSON.stringify({ inputs: example, outputs: readable.map(({ name }) => ({ name })) });
  } catch (error) {
    $(".answer", panel).replaceChildren(made("p", error.message, { className: "error" }));
  }
}

const panels = {
  ocr: ["of-picture", ofPicture],
  "image-classification": ["of-picture", ofPicture],
  "text-classification": ["of-text", ofText],
  "feature-extraction": ["of-similarity", ofSimilarity],
  tensor: ["of-tensor", ofTensor],
};

function choose(model) {
  asked += 1;
  panel.onpaste = null;
  for (const tab of $("#models").children) tab.setAttribute("aria-selected", tab.dataset.model === model.name);
  const [template, fill] = panels[model.task] ?? panels.tensor;
  panel.replaceChildren($(`#${template}`).content.cloneNode(true));
  history.replaceState(null, "", `#${encodeURIComponent(model.name)}`);
  fill(model);
}

call("models").then((models) => {
  $("#served").textContent = models.length === 1 ? "one model" : `${models.length} models`;
  $("#models").replaceChildren(...models.map((model) => {
    const tab = made("button", [model.name, made("small", model.task)], { type: "button", onclick: () => choose(model) });
    tab.setAttribute("role", "tab");
    tab.dataset.model = model.name;
    return tab;
  }));
  const wanted = decodeURIComponent(location.hash.slice(1));
  choose(models.find((model) => model.name === wanted) ?? models[0]);
}).catch((error) => {
  $("#served").textContent = error.message;
});
document.addEventListener("paste", (e) => { if (panel.onpaste && !panel.contains(e.target)) panel.onpaste(e); });
