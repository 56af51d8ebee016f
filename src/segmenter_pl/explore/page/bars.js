// The class probabilities at the point, a bar for each model.
import { css } from "./colors.js";
import { $, make } from "./elements.js";

const MOST = 8;
const LEAST = 0.0005; // is shown as 0.1 %

function bar(probability, color, letter) {
  const filled = make("i");
  filled.style.setProperty("--share", probability);
  filled.style.setProperty("--color", color);
  const number = make("span", { textContent: `${(100 * probability).toFixed(1)} %` });
  return make("div", { className: "measure" }, make("b", { textContent: letter }), make("div", {}, filled), number);
}

// Rows of one set of classes. columns: [letter, probabilities].
function rows({ classes, palette }, columns) {
  const best = classes.map((_, k) => Math.max(...columns.map(([, values]) => values[k])));
  const order = classes.map((_, k) => k).filter((k) => best[k] >= LEAST).sort((a, b) => best[b] - best[a]);
  const list = make("ul", { className: "bars" });
  for (const k of order.slice(0, MOST)) {
    const measures = columns.map(([letter, values]) => bar(values[k], css(palette[k]), letter));
    const row = make("li", {}, make("span", { className: "name", textContent: classes[k] }), make("div", {}, ...measures));
    row.dataset.class = k;
    list.append(row);
  }
  return list;
}

// models: as the server tells them. found: the probabilities of each, undefined where they are not there.
export function showBars(models, found, same) {
  const there = models.map((model, i) => [model, i ? "B" : "A", found[i]]).filter(([, , values]) => values);
  const letters = models.length > 1;
  if (same) {
    $("bars").replaceChildren(rows(models[0], there.map(([, letter, values]) => [letters ? letter : "", values])));
  } else {
    $("bars").replaceChildren(...there.map(([model, letter, values]) => rows(model, [[letter, values]])));
  }
}

export function clearBars() {
  $("at").textContent = "";
  $("bars").replaceChildren(make("p", { className: "quiet", textContent: "Click the picture." }));
}
